//! The settings of the API: variables in, where it listens and who may write out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::access::Writers;
use crate::config::{Error, Reader};

/// A key that is shorter can be found by trying.
const SHORTEST_KEY_BYTES: usize = 16;

/// Where the API listens, and who may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// `API_ADDRESS` and `PORT`: where `--serve` listens.
    pub address: SocketAddr,
    /// `API_KEY`, or `API_UNPROTECTED`.
    pub writers: Writers,
}

impl ApiSettings {
    /// Reads the settings. An empty variable counts as missing.
    ///
    /// # Errors
    /// All problems at once.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut reader = Reader::new(&lookup);
        let port = reader.number("PORT", 3_000, 0, u16::MAX);
        let address = ip_address(&mut reader);
        let is_unprotected = reader.choice("API_UNPROTECTED", false, &[("true", true), ("false", false)]);
        let key = reader.text("API_KEY");
        let writers = match (key, is_unprotected) {
            (Some(key), false) => writers_with(&key, &mut reader),
            (Some(_), true) => {
                reader.problems.push("API_UNPROTECTED is true, and there is an API_KEY".to_owned());
                Writers::Nobody
            }
            (None, true) if address.is_loopback() => Writers::Anybody,
            (None, true) => {
                reader
                    .problems
                    .push(format!("API_UNPROTECTED is true, and API_ADDRESS {address} is no loopback address"));
                Writers::Nobody
            }
            (None, false) => Writers::Nobody,
        };
        match reader.problems.is_empty() {
            true => Ok(Self { address: SocketAddr::new(address, port), writers }),
            false => Err(Error { problems: reader.problems }),
        }
    }

    /// The settings, if whoever serves on its own port has said who may write.
    ///
    /// # Errors
    /// When nothing was said.
    pub fn decided(self) -> Result<Self, Error> {
        match self.writers {
            Writers::Key(_) | Writers::Anybody => Ok(self),
            Writers::Nobody => Err(Error {
                problems: vec![
                    "API_KEY is missing: the key that whoever writes has to show (API_UNPROTECTED=true on a loopback \
                     address needs none)"
                        .to_owned(),
                ],
            }),
        }
    }
}

/// Nobody is served by accident: without a word the API is there for this machine alone.
fn ip_address(reader: &mut Reader<'_>) -> IpAddr {
    const NAME: &str = "API_ADDRESS";
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let Some(text) = reader.text(NAME) else { return loopback };
    text.parse().unwrap_or_else(|_| {
        reader.problems.push(format!("{NAME} is {text:?}, expected an IP address"));
        loopback
    })
}

fn writers_with(key: &str, reader: &mut Reader<'_>) -> Writers {
    let is_usable = key.len() >= SHORTEST_KEY_BYTES && key.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_usable {
        // Without the key itself: problems are logged.
        let problem = format!("API_KEY must have at least {SHORTEST_KEY_BYTES} printable ASCII characters, no spaces");
        reader.problems.push(problem);
    }
    Writers::with_key(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::VARIABLES;

    fn read(variables: &[(&str, &str)]) -> Result<ApiSettings, Error> {
        ApiSettings::from_lookup(|name| {
            assert!(VARIABLES.contains(&name), "{name} is not in VARIABLES");
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_word_nobody_writes_and_nothing_is_served() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.address.to_string(), "127.0.0.1:3000");
        assert_eq!(settings.writers, Writers::Nobody);
        assert!(settings.decided().unwrap_err().to_string().contains("API_KEY is missing"));
    }

    #[test]
    fn a_key_lets_its_owner_write() {
        let settings = read(&[("API_KEY", "0123456789abcdef"), ("API_ADDRESS", "0.0.0.0"), ("PORT", "80")]).unwrap();
        assert_eq!(settings.address.to_string(), "0.0.0.0:80");
        assert_eq!(settings.decided().unwrap().writers, Writers::with_key("0123456789abcdef"));
    }

    #[test]
    fn only_this_machine_may_be_unprotected() {
        assert_eq!(read(&[("API_UNPROTECTED", "true")]).unwrap().decided().unwrap().writers, Writers::Anybody);
        for (variables, problem) in [
            ([("API_UNPROTECTED", "true"), ("API_ADDRESS", "0.0.0.0")], "no loopback address"),
            ([("API_UNPROTECTED", "true"), ("API_KEY", "0123456789abcdef")], "and there is an API_KEY"),
            ([("API_UNPROTECTED", "yes"), ("API_ADDRESS", "here")], "expected an IP address"),
            ([("API_KEY", "too short"), ("PORT", "3000")], "at least 16 printable"),
        ] {
            let error = read(&variables).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let shown = format!("{:?}", read(&[("API_KEY", "0123456789abcdef")]).unwrap());
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
    }
}

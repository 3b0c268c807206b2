//! What runs read and never write: the prefixes of the configuration in, a yes or no for a key or a folder out.
//!
//! Only such objects may be read once for many, or twice for one. A claim, a marker or a `current` is there to be
//! contended for, and whoever reads it has to see it as it is at that moment.

use crate::keys::{Key, Prefix, Prefixes};

/// The inputs of a store.
#[derive(Debug, Clone)]
pub struct Inputs {
    read: Prefixes,
    written: Prefixes,
}

impl Inputs {
    /// What lies under one of `read` and touches none of `written`.
    #[must_use]
    pub fn new(read: Prefixes, written: Prefixes) -> Self {
        Self { read, written }
    }

    /// Whether this object is read and never written.
    #[must_use]
    pub fn have(&self, key: &Key) -> bool {
        is_under(key.as_str(), &self.read) && !is_under(key.as_str(), &self.written)
    }

    /// Whether everything in this folder is read and never written.
    #[must_use]
    pub fn have_all_of(&self, folder: &Prefix) -> bool {
        let has_written = self.written.iter().any(|written| folder.contains(written.as_str()));
        is_under(folder.as_str(), &self.read) && !is_under(folder.as_str(), &self.written) && !has_written
    }
}

fn is_under(path: &str, prefixes: &Prefixes) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_written_is_no_input() {
        let prefixes = |list| Prefixes::parse(list).unwrap();
        let inputs = Inputs::new(prefixes("data/"), prefixes("data/metrics/,metrics/"));
        let has = |path| inputs.have(&Key::parse(path).unwrap());
        assert!(has("data/d/manifest.json"));
        assert!(!has("data/metrics/m/current/manifest.json") && !has("metrics/m/runs/r.ok") && !has("other/x"));
        let has_all = |path| inputs.have_all_of(&Prefix::parse(path).unwrap());
        assert!(has_all("data/d/projections/A/"));
        assert!(!has_all("data/") && !has_all("data/metrics/m/") && !has_all("metrics/") && !has_all("other/"));
    }
}

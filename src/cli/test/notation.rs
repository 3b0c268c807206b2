//! Series in a few characters, as `promtool` has them: `1+2x3 _ null 8|9` in; 1, 3, 5, 7, nothing, a null, and at last 8
//! and 9 at one time, out.

use anyhow::{Context, bail};

use crate::series::NULL;

/// More values than anybody writes out by hand; a typing error must not fill the memory.
const MOST_VALUES: usize = 1_000_000;

/// The values at each time, in the order that they are read; none where there is no observation.
///
/// # Errors
/// When a word is no value.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        extend(&mut values, word).with_context(|| format!("{word:?} is no value"))?;
        if values.len() > MOST_VALUES {
            bail!("more than {MOST_VALUES} values");
        }
    }
    Ok(values)
}

fn extend(values: &mut Vec<Vec<f64>>, word: &str) -> anyhow::Result<()> {
    let Some((pattern, count)) = word.rsplit_once('x') else {
        let at_once = word.split('|').map(single).collect::<anyhow::Result<Vec<_>>>()?;
        values.push(at_once.into_iter().flatten().collect());
        return Ok(());
    };
    let count: usize = count.parse().context("what follows x is a count")?;
    if count > MOST_VALUES {
        bail!("at most {MOST_VALUES}");
    }
    if pattern == "_" {
        values.extend(std::iter::repeat_n(Vec::new(), count));
        return Ok(());
    }
    // The sign between start and step is not that of the start, nor of an exponent.
    let is_sign =
        |(at, sign): &(usize, char)| *at > 0 && matches!(sign, '+' | '-') && !pattern[..*at].ends_with(['e', 'E']);
    let (start, step) = match pattern.char_indices().find(is_sign) {
        Some((at, _)) => (single(&pattern[..at])?, pattern[at..].parse::<f64>()?),
        None => (single(pattern)?, 0.0),
    };
    let mut factor = 0.0;
    for _ in 0..=count {
        // A step of zero says "the same again", for null and infinities too.
        let value = start.map(|start| if step == 0.0 { start } else { start + factor * step });
        values.push(value.into_iter().collect());
        factor += 1.0;
    }
    Ok(())
}

fn single(word: &str) -> anyhow::Result<Option<f64>> {
    match word {
        "_" => Ok(None),
        "null" => Ok(Some(NULL)),
        "inf" => Ok(Some(f64::INFINITY)),
        "-inf" => Ok(Some(f64::NEG_INFINITY)),
        _ => Ok(Some(word.parse::<f64>().ok().filter(|value| value.is_finite()).context("a number is expected")?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = |values: Vec<f64>| match values.as_slice() {
            [] => "_".to_owned(),
            values => values.iter().map(f64::to_string).collect::<Vec<_>>().join("|"),
        };
        let values: Vec<String> = parse(text).unwrap().into_iter().map(shown).collect();
        assert_eq!(values.join(" "), expected, "{text}");
    }

    #[test]
    fn notation_is_that_of_promtool() {
        check("1+2x3 _ null", "1 3 5 7 _ NaN");
        check("10-2.5x2", "10 7.5 5");
        check("-3x1 _x2 1e3 inf -inf", "-3 -3 _ _ 1000 inf -inf");
        check("1e-2+1e-2x1", "0.01 0.02");
        check("nullx1", "NaN NaN");
        check("1|2 null|-3", "1|2 NaN|-3");
        check("", "");
    }

    #[test]
    fn what_is_no_value_is_named() {
        for word in ["1+x3", "a", "1x-1", "1x", "NaN", "1e999", "x", "1|", "1|2x3"] {
            let error = format!("{:#}", parse(word).unwrap_err());
            assert!(error.starts_with(&format!("{word:?} is no value")), "{error}");
        }
        assert!(parse("1x99999999999").is_err());
    }
}

//! What Ganeti says: variables, and nothing else (`spec/ganeti.md` sections 2 and 7).
//!
//! A variable that is there and empty counts as absent.

use crate::failure::Failure;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

/// The variables of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(HashMap<OsString, OsString>);

impl Environment {
    /// Those of this process.
    pub(crate) fn of_process() -> Environment {
        Environment(std::env::vars_os().collect())
    }

    /// A variable as text.
    pub(crate) fn get(&self, variable: &str) -> Result<Option<&str>, Failure> {
        let Some(value) = self.raw(variable) else {
            return Ok(None);
        };
        let text = value.to_str();
        text.map(Some)
            .ok_or_else(|| Failure::wrong(variable, &value.to_string_lossy(), "text in UTF-8"))
    }

    /// A variable as it is, for paths.
    pub(crate) fn raw(&self, variable: &str) -> Option<&OsStr> {
        let value = self.0.get(OsStr::new(variable))?;
        Some(value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// A variable that must be there.
    pub(crate) fn need(&self, variable: &str) -> Result<&str, Failure> {
        self.get(variable)?
            .ok_or_else(|| Failure::missing(variable))
    }

    /// A whole number that is not negative, if the variable is there.
    pub(crate) fn number(&self, variable: &str, what: &str) -> Result<Option<u64>, Failure> {
        let Some(text) = self.get(variable)? else {
            return Ok(None);
        };
        let number = text.trim().parse().ok();
        number
            .map(Some)
            .ok_or_else(|| Failure::wrong(variable, text, what))
    }

    /// A size in MiB that must be there, in bytes.
    pub(crate) fn need_mib(&self, variable: &str) -> Result<u64, Failure> {
        let what = "a size in MiB";
        let mib = self.number(variable, what)?;
        let mib = mib.ok_or_else(|| Failure::missing(variable))?;
        mib.checked_mul(1 << 20)
            .ok_or_else(|| Failure::wrong(variable, &mib.to_string(), what))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Environment {
        let pairs = variables.map(|(name, value)| (name.into(), value.into()));
        Environment(pairs.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn what_is_empty_is_absent() {
        let environment = Environment::from([("VOL_NAME", ""), ("VOL_SIZE", "1")]);
        assert_eq!(environment.get("VOL_NAME"), Ok(None));
        let missing = environment.need("VOL_NAME").unwrap_err().to_string();
        let lines = "The environment variable VOL_NAME is missing.\nWrong environment. Aborting...";
        assert_eq!(missing, lines);
        assert_eq!(environment.need("VOL_SIZE"), Ok("1"));
    }

    #[test]
    fn sizes_are_whole_mebibytes() {
        let size = |text| Environment::from([("VOL_SIZE", text)]).need_mib("VOL_SIZE");
        assert_eq!(size("10"), Ok(10 << 20));
        for wrong in ["ten", "1.5", "-1", "17592186044416", "99999999999999999999"] {
            let why = size(wrong).unwrap_err().to_string();
            let first = format!(
                "The environment variable VOL_SIZE is `{wrong}`, which is not a size in MiB.\n"
            );
            assert!(why.starts_with(&first), "{why}");
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        let value = OsString::from_vec(vec![b'a', 0xff]);
        let environment = Environment([("VOL_NAME".into(), value)].into());
        let why = environment.need("VOL_NAME").unwrap_err().to_string();
        assert!(
            why.contains("VOL_NAME") && why.contains("not text in UTF-8"),
            "{why}"
        );
    }
}

//! The segment's specification, `TYPE:NAME:DYNPORTS:PORTS:SIZE_MB:ALIGN`.
//!
//! Dynports stand before ports, whatever the original's manual says (`spec/cli.md` section 4).
//! A partial text such as `posix:archipelago:` is enough to join a segment; the defaults fill
//! the rest (section 5). What this crate parsed or read is within the limits below.

use std::fmt;
use std::str::FromStr;

use crate::error::{ErrorKind, Fault};

/// The most ports that a segment may have.
pub const PORTS_MAX: u32 = 65_536;
/// The largest heap, in MiB: 1 TiB.
pub const SIZE_MIB_MAX: u64 = 1 << 20;
/// The longest name, in bytes: it is part of socket and lock file names.
pub const NAME_LEN_MAX: usize = 64;
/// The only alignment there is, as a shift: buffers lie on pages of 4 KiB.
pub const ALIGNMENT: u32 = 12;

/// The kind of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentType {
    /// Shared memory of this host.
    Posix,
}

impl SegmentType {
    /// The word that stands for it in a file or on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            SegmentType::Posix => "posix",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<SegmentType> {
        (word == "posix").then_some(SegmentType::Posix)
    }
}

/// What a segment is called and how large it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SegmentSpec {
    /// The kind of the segment.
    pub kind: SegmentType,
    /// Its name: 1 to [`NAME_LEN_MAX`] bytes without `/`, `:`, white space or control characters.
    pub name: String,
    /// How many ports are static: those below this number.
    pub dynports: u32,
    /// How many ports there are.
    pub ports: u32,
    /// The size of the heap in MiB.
    pub size_mib: u64,
    /// The alignment of buffers, as a shift; always [`ALIGNMENT`].
    pub align: u32,
}

impl Default for SegmentSpec {
    /// What a field left out of a spec means.
    fn default() -> SegmentSpec {
        SegmentSpec {
            kind: SegmentType::Posix,
            name: "globalxseg".into(),
            dynports: 64,
            ports: 128,
            size_mib: 256,
            align: ALIGNMENT,
        }
    }
}

impl SegmentSpec {
    /// Limits on ports, size and name, in the original's order. The keys named in a fault are
    /// those of the file's `[XSEG]` section.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let range = |key, message: String| Err(Fault::new(ErrorKind::OutOfRange, key, message));
        if self.align != ALIGNMENT {
            return range(
                "segment_alignment",
                format!("Wrong alignment: only {ALIGNMENT} is supported"),
            );
        }
        if self.dynports >= self.ports {
            let (dynports, ports) = (self.dynports, self.ports);
            return range(
                "segment_dynports",
                format!("Dynports >= max ports ({dynports} >= {ports})"),
            );
        }
        if self.dynports == 0 {
            return range(
                "segment_dynports",
                "a segment needs at least one static port".into(),
            );
        }
        if self.ports > PORTS_MAX {
            return range(
                "segment_ports",
                format!("a segment has at most {PORTS_MAX} ports"),
            );
        }
        if !(1..=SIZE_MIB_MAX).contains(&self.size_mib) {
            return range(
                "segment_size",
                format!("the size is 1 to {SIZE_MIB_MAX} MiB"),
            );
        }
        check_name(&self.name)
    }
}

fn check_name(name: &str) -> Result<(), Fault> {
    let allowed = |c: char| !matches!(c, '/' | ':') && !c.is_whitespace() && !c.is_control();
    let good = (1..=NAME_LEN_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.chars().all(allowed);
    match good {
        true => Ok(()),
        false => Err(Fault::new(
            ErrorKind::BadValue,
            "segment_name",
            format!(
                "`{}` is no segment name: 1 to {NAME_LEN_MAX} bytes without `/`, `:` and spaces",
                name.escape_debug()
            ),
        )),
    }
}

/// A text that is no segment specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{spec}` is no segment (TYPE:NAME:DYNPORTS:PORTS:SIZE_MB:ALIGN): {reason}")]
pub struct SpecError {
    spec: String,
    reason: String,
}

impl FromStr for SegmentSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<SegmentSpec, SpecError> {
        let error = |reason: String| SpecError {
            spec: spec.escape_debug().to_string(),
            reason,
        };
        let parsed = parse_fields(spec).map_err(error)?;
        parsed.check().map_err(|fault| error(fault.message))?;
        Ok(parsed)
    }
}

/// Fills the fields that the text gives over the defaults.
fn parse_fields(spec: &str) -> Result<SegmentSpec, String> {
    let fields: Vec<&str> = spec.split(':').collect();
    if fields.len() > 6 {
        return Err("more than six fields".into());
    }
    let given = |index: usize| fields.get(index).copied().filter(|field| !field.is_empty());
    let mut parsed = SegmentSpec::default();
    if let Some(word) = given(0) {
        parsed.kind = SegmentType::from_word(word).ok_or("Segment type not valid")?;
    }
    if let Some(name) = given(1) {
        parsed.name = name.into();
    }
    fill(&mut parsed.dynports, given(2), "DYNPORTS")?;
    fill(&mut parsed.ports, given(3), "PORTS")?;
    fill(&mut parsed.size_mib, given(4), "SIZE_MB")?;
    fill(&mut parsed.align, given(5), "ALIGN")?;
    Ok(parsed)
}

fn fill<T: FromStr>(slot: &mut T, field: Option<&str>, what: &str) -> Result<(), String> {
    if let Some(text) = field {
        *slot = text.parse().map_err(|_| format!("{what} is no number"))?;
    }
    Ok(())
}

impl fmt::Display for SegmentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentSpec {
            kind,
            name,
            dynports,
            ports,
            size_mib,
            align,
        } = self;
        write!(
            f,
            "{}:{name}:{dynports}:{ports}:{size_mib}:{align}",
            kind.as_str()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_partial_spec_takes_the_defaults() {
        let default = SegmentSpec::default();
        assert_eq!("".parse(), Ok(default.clone()));
        assert_eq!("posix:".parse(), Ok(default.clone()));
        let named = SegmentSpec {
            name: "archipelago".into(),
            ..default.clone()
        };
        assert_eq!("posix:archipelago:".parse(), Ok(named));
        let ports = SegmentSpec {
            ports: 512,
            ..default
        };
        assert_eq!("::64:512".parse(), Ok(ports));
    }

    #[test]
    fn a_full_spec_keeps_dynports_before_ports() {
        let spec: SegmentSpec = "posix:archipelago:1024:2048:512:12".parse().unwrap();
        assert_eq!(
            (spec.dynports, spec.ports, spec.size_mib),
            (1024, 2048, 512)
        );
    }

    #[test]
    fn limits_are_named() {
        let table = [
            ("sysv:a", "Segment type not valid"),
            ("posix:a:64:64", "Dynports >= max ports"),
            ("posix:a:0:64", "at least one static port"),
            ("posix:a:64:65537", "at most 65536 ports"),
            ("posix:a:64:x", "PORTS is no number"),
            ("posix:a:-1:64", "DYNPORTS is no number"),
            ("posix:a:64:128:0", "1 to 1048576 MiB"),
            ("posix:a:64:128:9999999", "1 to 1048576 MiB"),
            ("posix:a:64:128:256:13", "Wrong alignment"),
            ("posix:a:64:128:256:12:1", "more than six fields"),
            ("posix:../a", "no segment name"),
        ];
        for (text, reason) in table {
            let error = text.parse::<SegmentSpec>().unwrap_err().to_string();
            assert!(
                error.contains(reason) && error.contains(text),
                "{text}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            name in "[a-zA-Z0-9_.-]{1,63}x",
            dynports in 1u32..1000,
            more in 1u32..1000,
            size_mib in 1u64..10_000,
        ) {
            let spec = SegmentSpec { name, dynports, ports: dynports + more, size_mib, ..Default::default() };
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<SegmentSpec>();
        }
    }
}

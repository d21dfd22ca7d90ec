//! The command line of `xseg`: words, in the original's grammar.

use xseg::protocol::PortNo;

/// `SRC:DST`; the source is not used, for any free port will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) dst: Option<PortNo>,
}

/// A command on the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Global {
    Create,
    Destroy,
    Join,
    Report { json: bool },
    Signal(PortNo),
    RecoverPort { port: PortNo, force: bool },
    RecoverLocks,
    Verify { fix: bool },
}

/// A command on the tool's own serving seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Bind(PortNo),
    Free(PortNo),
    Alloc(u64),
    FreeRequests(u64),
    Answer { count: u64, fails: bool },
}

/// A command on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OnPort {
    Read {
        target: String,
        offset: u64,
        size: u64,
    },
    Write {
        target: String,
        offset: u64,
    },
    Simple {
        operation: &'static str,
        target: String,
    },
    Two {
        operation: &'static str,
        source: String,
        target: String,
        size_mib: u64,
    },
    Truncate {
        target: String,
        size: u64,
    },
    Wait(u64),
    Report,
}

/// One piece of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Ports(Ports),
    Global(Global),
    Own(Own),
    Port(OnPort),
}

/// Words of the original that are left out; `--help` says why.
const LEFT_OUT: [&str; 12] = [
    "set-next",
    "failreq",
    "inspect-freeq",
    "inspect-requestq",
    "inspect-replyq",
    "put_requests",
    "put_replies",
    "rndwrite",
    "rndread",
    "rnddelete",
    "submit_reqs",
    "bridge",
];

/// Words that take one target.
const SIMPLE: [&str; 6] = ["info", "delete", "acquire", "release", "open", "close"];

/// The words that are left.
struct Rest<'a> {
    words: &'a [&'a str],
    command: &'a str,
}

impl<'a> Rest<'a> {
    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        let (first, rest) = self
            .words
            .split_first()
            .ok_or_else(|| format!("{} needs {what}", self.command))?;
        self.words = rest;
        Ok(first)
    }

    fn target(&mut self) -> Result<String, String> {
        self.next("a target").map(str::to_owned)
    }

    fn number(&mut self, what: &str) -> Result<u64, String> {
        let word = self.next(what)?;
        word.parse()
            .map_err(|_| format!("{}: `{word}` is no number", self.command))
    }

    fn port(&mut self) -> Result<PortNo, String> {
        let number = self.number("a port")?;
        number
            .try_into()
            .map_err(|_| format!("{number} is no port"))
    }

    fn takes(&mut self, words: &[&str]) -> bool {
        let there = self.words.starts_with(words);
        if there {
            self.words = &self.words[words.len()..];
        }
        there
    }
}

/// Reads all words.
pub(super) fn parse(words: &[&str]) -> Result<Vec<Word>, String> {
    let mut rest = Rest { words, command: "" };
    let mut parsed = Vec::new();
    while let Some((first, words)) = rest.words.split_first() {
        rest = Rest {
            words,
            command: first,
        };
        parsed.push(word(&mut rest)?);
    }
    Ok(parsed)
}

fn word(rest: &mut Rest<'_>) -> Result<Word, String> {
    if let Some(ports) = ports(rest.command)? {
        return Ok(Word::Ports(ports));
    }
    if let Some(command) = global(rest)? {
        return Ok(Word::Global(command));
    }
    match own(rest)? {
        Some(command) => Ok(Word::Own(command)),
        None => on_port(rest).map(Word::Port),
    }
}

fn ports(word: &str) -> Result<Option<Ports>, String> {
    let Some((src, dst)) = word.split_once(':') else {
        return Ok(None);
    };
    let number = |text: &str| match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| format!("`{word}` is not SRC:DST")),
    };
    number(src)?;
    Ok(Some(Ports { dst: number(dst)? }))
}

fn global(rest: &mut Rest<'_>) -> Result<Option<Global>, String> {
    Ok(Some(match rest.command {
        "create" => Global::Create,
        "destroy" => Global::Destroy,
        "join" => Global::Join,
        "reportall" => Global::Report {
            json: rest.takes(&["--format", "json"]) || rest.takes(&["--format=json"]),
        },
        "signal" => Global::Signal(rest.port()?),
        "recoverport" => Global::RecoverPort {
            port: rest.port()?,
            force: rest.takes(&["force"]),
        },
        "recoverlocks" => {
            rest.number("a process id")?;
            Global::RecoverLocks
        }
        "verify" => Global::Verify { fix: false },
        "verify-fix" => Global::Verify { fix: true },
        _ => return Ok(None),
    }))
}

fn own(rest: &mut Rest<'_>) -> Result<Option<Own>, String> {
    let count = "a count";
    Ok(Some(match rest.command {
        "bind" => Own::Bind(rest.port()?),
        "free" => Own::Free(rest.port()?),
        "alloc_requests" => Own::Alloc(rest.number(count)?),
        "free_requests" => Own::FreeRequests(rest.number(count)?),
        "complete" | "fail" => Own::Answer {
            fails: rest.command == "fail",
            count: rest.number(count)?,
        },
        _ => return Ok(None),
    }))
}

fn on_port(rest: &mut Rest<'_>) -> Result<OnPort, String> {
    if let Some(operation) = SIMPLE.into_iter().find(|&word| word == rest.command) {
        return Ok(OnPort::Simple {
            operation,
            target: rest.target()?,
        });
    }
    let two = |operation, rest: &mut Rest<'_>| -> Result<OnPort, String> {
        let (source, target) = (rest.target()?, rest.target()?);
        let size_mib = if operation == "clone" {
            rest.number("a size in MiB")?
        } else {
            0
        };
        Ok(OnPort::Two {
            operation,
            source,
            target,
            size_mib,
        })
    };
    match rest.command {
        "read" => Ok(OnPort::Read {
            target: rest.target()?,
            offset: rest.number("an offset")?,
            size: rest.number("a size")?,
        }),
        "write" => Ok(OnPort::Write {
            target: rest.target()?,
            offset: rest.number("an offset")?,
        }),
        "copy" => two("copy", rest),
        "clone" => two("clone", rest),
        "snapshot" => two("snapshot", rest),
        "truncate" => Ok(OnPort::Truncate {
            target: rest.target()?,
            size: rest.number("a size")?,
        }),
        "wait" => Ok(OnPort::Wait(rest.number("a count")?)),
        "report" => Ok(OnPort::Report),
        other if LEFT_OUT.contains(&other) => Err(format!(
            "{other} has no meaning in this segment; --help says why"
        )),
        other => Err(format!("there is no command {other}; --help lists them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_follow_one_another() {
        let words = [
            "1:2",
            "write",
            "object",
            "0",
            "wait",
            "1",
            "recoverport",
            "7",
            "verify",
        ];
        let parsed = parse(&words).unwrap();
        let expected = [
            Word::Ports(Ports { dst: Some(2) }),
            Word::Port(OnPort::Write {
                target: "object".into(),
                offset: 0,
            }),
            Word::Port(OnPort::Wait(1)),
            Word::Global(Global::RecoverPort {
                port: 7,
                force: false,
            }),
            Word::Global(Global::Verify { fix: false }),
        ];
        assert_eq!(parsed, expected);
        assert_eq!(parse(&[":"]), Ok(vec![Word::Ports(Ports { dst: None })]));
    }

    #[test]
    fn mistakes_are_named() {
        for (words, sentence) in [
            (
                &["frobnicate"][..],
                "there is no command frobnicate; --help lists them",
            ),
            (&["read", "x", "0"], "read needs a size"),
            (&["wait", "x"], "wait: `x` is no number"),
            (&["a:b"], "`a:b` is not SRC:DST"),
            (
                &["rndread"],
                "rndread has no meaning in this segment; --help says why",
            ),
        ] {
            assert_eq!(parse(words).unwrap_err(), sentence);
        }
    }
}

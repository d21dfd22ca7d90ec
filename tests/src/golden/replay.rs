//! The manifest's operations, through a client.
//!
//! What always holds: an operation that the original refused is refused here, and one that it
//! served is served, but for what `spec/choices.md` says otherwise ([`Replay::is_ours_to_differ`]).

use crate::golden::archive::{Stage, data};
use crate::golden::node::{Node, name};
use crate::golden::tree::{hex, sha256};
use client::{Client, Error, Hint, Volume};
use serde_json::Value;
use xseg::Request;
use xseg::protocol::{CreateObject, CreateRequest, NameRequest, Operation, flags, mapflags};

/// What a replayed operation may come to.
type Outcome = Result<(), String>;

/// A replay through one node.
pub struct Replay<'a> {
    node: &'a Node,
    /// The manifest's volumes of older formats; null in the archive without any.
    volumes: &'a Value,
    /// The volume of the operation before: a `close` names none.
    last: String,
}

impl<'a> Replay<'a> {
    /// A replay through `node`; `volumes` is the manifest's, for the sizes of v0 volumes.
    pub fn new(node: &'a Node, volumes: &'a Value) -> Replay<'a> {
        let last = String::new();
        Replay {
            node,
            volumes,
            last,
        }
    }

    /// Performs all operations of a stage.
    pub fn perform(&mut self, stage: &Stage) {
        for (at, op) in stage.ops.iter().enumerate() {
            let before = at.checked_sub(1).map(|before| &stage.ops[before]);
            if is_ours_to_differ(op) || closes_what_was_not_opened(before, op) {
                continue;
            }
            let outcome = self.one(op);
            let served = op["ok"].as_bool().unwrap();
            assert_eq!(outcome.is_ok(), served, "{}: {op}: {outcome:?}", stage.name);
        }
    }

    /// Reads the volumes of a stage as the original was asked to, and closes them.
    pub fn read_back(&self, stage: &Stage, expected: impl Fn(&str, &Value) -> String) {
        let Some(volumes) = stage.volumes.as_object() else {
            return;
        };
        for (volume, facts) in volumes {
            let at = format!("{volume} in {}", stage.name);
            let client = self.node.client();
            let size = client.info(name(volume), Hint::default());
            assert_eq!(size.ok(), facts["info_size"].as_u64(), "{at}");
            let hash = content_hash(client, volume, Hint::default(), None);
            assert_eq!(hash.unwrap(), expected(volume, facts), "{at}");
            let closed = client.close(name(volume), Hint::default());
            assert_eq!(
                Some(closed.is_ok()),
                facts["close_ok"].as_bool(),
                "{at}: {closed:?}"
            );
        }
    }

    fn one(&mut self, op: &Value) -> Outcome {
        let text = |key: &str| op[key].as_str().unwrap_or_default();
        let number = |key: &str| op[key].as_u64();
        let volume = match text("volume") {
            "" => self.last.clone(),
            given => self.full_name(given),
        };
        self.last.clone_from(&volume);
        let (client, ports) = (self.node.client(), self.node.client().ports());
        let target = || name(&volume);
        let hint = hint_of(op);
        match text("op") {
            "create" | "create again" => said(client.create(target(), number("size").unwrap())),
            "write" => self.write(op, &volume),
            "write to upgraded v0 (readonly)" => {
                plain(self.node.write(ports.vlmcd, &volume, 0, b"never"))
            }
            "snapshot" => said(client.snapshot(target(), name(text("snapshot")), hint)),
            "clone" => {
                let size = number("size").unwrap_or(0);
                said(client.clone_volume(name(text("snapshot")), target(), size, hint))
            }
            "create(X_CREATE)" => self.create_map(op),
            "delete" | "delete again" => {
                said(client.remove(self.gone_or(text("op"), target()), hint))
            }
            "info deleted" => said(client.info(name("golddel01"), hint)),
            "open deleted" => said(client.open(name("golddel01"), hint)),
            "read deleted" => plain(self.node.read(ports.vlmcd, "golddel01", 0, 512)),
            "rename" => said(client.rename(target(), name(text("newname")), hint)),
            "flush" => plain(self.node.do_to(ports.vlmcd, Operation::Flush, &volume)),
            "write0+XF_FLUSH" => self.empty_write_with_flush(&volume),
            "INFO" => said(client.info(target(), hint)),
            "open" | "OPEN" => said(client.open(target(), hint)),
            "close" | "CLOSE" => said(client.close(target(), hint)),
            "read all" => self.read_all(op, &volume, hint),
            hash if hash.starts_with("hash(filed)") => self.hash(op),
            cut if cut.starts_with("truncate") => {
                said(client.resize(target(), number("newsize").unwrap(), true))
            }
            other => panic!("an operation that nobody knows: {other}"),
        }
    }

    /// `delete again` names no volume.
    fn gone_or(&self, op: &str, target: xseg::Name) -> xseg::Name {
        if op == "delete again" {
            name("golddel01")
        } else {
            target
        }
    }

    /// Some operations give the first 16 characters of a long name.
    fn full_name(&self, given: &str) -> String {
        let volumes = self.volumes.as_object();
        let long = volumes.and_then(|all| all.keys().find(|key| key.starts_with(given)));
        long.map_or(given.to_owned(), String::clone)
    }

    fn write(&self, op: &Value, volume: &str) -> Outcome {
        let bytes = data(&op["data"]);
        let vlmcd = self.node.client().ports().vlmcd;
        let served = self
            .node
            .write(vlmcd, volume, op["offset"].as_u64().unwrap(), &bytes);
        if let Some(serviced) = op["serviced"].as_u64() {
            assert_eq!(served, Ok(serviced), "{op}");
        }
        plain(served)
    }

    fn empty_write_with_flush(&self, volume: &str) -> Outcome {
        let request = Request {
            flags: flags::FLUSH,
            ..Request::new(Operation::Write, name(volume))
        };
        plain(
            self.node
                .ask(self.node.client().ports().vlmcd, request, &[]),
        )
    }

    fn hash(&self, op: &Value) -> Outcome {
        let request = Request {
            size: 4 << 20,
            ..Request::new(Operation::Hash, name(op["target"].as_str().unwrap()))
        };
        let answer = self
            .node
            .ask(self.node.client().ports().blockerb, request, &[]);
        let (_, bytes) = answer.map_err(|errno| format!("errno {errno}"))?;
        let NameRequest(hash) = NameRequest::decode(&bytes).unwrap();
        assert_eq!(op["hash"], std::str::from_utf8(&hash).unwrap(), "{op}");
        Ok(())
    }

    fn create_map(&self, op: &Value) -> Outcome {
        let readonly = op["create_flags"].as_u64().unwrap() as u32;
        let object_flags = op["object_flags"]
            .as_u64()
            .map_or(mapflags::READONLY, |f| f as u32);
        let objects = op["objects"].as_array().unwrap().iter();
        let objects = objects.map(|object| CreateObject {
            name: name(object.as_str().unwrap()),
            flags: object_flags,
        });
        let asked = CreateRequest {
            block_size: 4 << 20,
            flags: readonly,
            objects: objects.collect(),
        };
        let target = name(op["target"].as_str().unwrap());
        said(self.node.client().create_map(target, 10_485_760, &asked))
    }

    /// The original's client read as many bytes as the manifest says that the volume has.
    fn read_all(&self, op: &Value, volume: &str, hint: Hint) -> Outcome {
        let len = self.volumes[volume]["size"].as_u64();
        let hash = content_hash(self.node.client(), volume, hint, len);
        if let (Ok(found), Some(expected)) = (&hash, op["sha256"].as_str()) {
            assert_eq!(found, expected, "{op}");
        }
        said(hash)
    }
}

/// `spec/choices.md`: HASH of a snapshot works here, and makes a map; the 0.3 layout is readable.
fn is_ours_to_differ(op: &Value) -> bool {
    let of_v1b = op["volume"] == "legacyv1b";
    op["op"] == "hash(mapper)" || of_v1b
}

/// `spec/choices.md`: an OPEN that is refused keeps no lock here, so that the CLOSE right behind
/// it has nothing to close.
fn closes_what_was_not_opened(before: Option<&Value>, op: &Value) -> bool {
    before.is_some_and(|before| {
        before["op"] == "OPEN" && before["ok"] == false && op["op"] == "CLOSE"
    })
}

fn hint_of(op: &Value) -> Hint {
    let v0_size = op["v0"].as_u64().or(op["v0_size"].as_u64());
    let assume_v0 = op["flags"].as_u64().unwrap_or(0) & u64::from(flags::ASSUME_V0) != 0;
    Hint { assume_v0, v0_size }
}

fn said<T>(result: Result<T, Error>) -> Outcome {
    result.map(drop).map_err(|error| error.to_string())
}

fn plain<T>(result: Result<T, i32>) -> Outcome {
    result.map(drop).map_err(|errno| format!("errno {errno}"))
}

/// sha256 of a volume's first `len` bytes, all of them when it is not given.
pub fn content_hash(
    client: &Client,
    volume: &str,
    hint: Hint,
    len: Option<u64>,
) -> Result<String, Error> {
    let volume = Volume::open(client, name(volume), hint)?;
    let mut bytes = vec![0xee; len.unwrap_or(volume.size()) as usize];
    volume.read_at(&mut bytes, 0)?;
    Ok(sha256(&bytes))
}

/// The first bytes of a file, in hexadecimal, for failures to show.
pub fn head(path: &std::path::Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    hex(&bytes[..bytes.len().min(512)])
}

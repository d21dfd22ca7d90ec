//! The control socket of a mapped volume: one JSON line asks, one JSON line answers.
//!
//! | request | reply |
//! |---|---|
//! | `{"do":"freeze"}`, `{"do":"thaw"}`, `{"do":"resize"}` | `{"ok":true}` when it is done |
//! | `{"do":"status"}` | `{"ok":true}` and the fields of [`Info`] |
//! | `{"do":"unmap"}` | `{"ok":true}`, and the process ends; `{"error":"busy","pids":[..]}` |
//! | anything | `{"error":"a sentence"}` when it failed |

use crate::error::{Error, ErrorKind};
use crate::registry::{self, Info};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest request line, bytes.
const LINE_MAX: u64 = 4096;
/// How long a client may take to send its line.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be done with a mapped volume. Calls come from several threads.
pub trait Device: Send + Sync {
    /// Stops sending, flushes, closes the volume and leaves the segment.
    fn freeze(&self) -> Result<(), Error>;
    /// Joins again and goes on.
    fn thaw(&self) -> Result<(), Error>;
    /// Follows the volume's size.
    fn resize(&self) -> Result<(), Error>;
    /// Takes the device down and removes it from the registry; `Busy` while it is used.
    fn unmap(&self) -> Result<(), Error>;
    /// Describes it.
    fn info(&self) -> Info;
    /// Whether it was taken down, in good order or not.
    fn is_down(&self) -> bool;
    /// The device is down and that was told: the process ends.
    fn over(&self);
}

/// What a mapped volume's process can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Close the volume and leave the segment; requests wait.
    Freeze,
    /// Join, open the volume and go on.
    Thaw,
    /// Follow the volume's new size.
    Resize,
    /// Describe yourself.
    Status,
    /// Take the device away.
    Unmap,
}

#[derive(Deserialize)]
struct Request {
    r#do: Verb,
}

#[derive(Serialize, Default)]
struct Reply {
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    info: Option<Info>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<Vec<i32>>,
}

impl From<Result<Option<Info>, Error>> for Reply {
    fn from(result: Result<Option<Info>, Error>) -> Reply {
        match result {
            Ok(info) => Reply {
                ok: Some(true),
                info,
                ..Reply::default()
            },
            Err(why) => Reply {
                pids: (why.kind == ErrorKind::Busy).then_some(why.pids),
                error: Some(why.sentence),
                ..Reply::default()
            },
        }
    }
}

/// Listens at `path` for the group `gid`.
pub fn listen(path: &Path, gid: u32) -> Result<UnixListener, Error> {
    let listener = UnixListener::bind(path);
    listener
        .and_then(|listener| registry::own(path, 0o660, gid).map(|()| listener))
        .map_err(Error::system(format!("can't listen at {}", path.display())))
}

/// Serves for ever, each client on a thread of its own.
pub fn serve(listener: UnixListener, device: Arc<dyn Device>) -> io::Result<()> {
    let work = move || {
        for client in listener.incoming() {
            let device = device.clone();
            let started = client.and_then(|client| {
                std::thread::Builder::new()
                    .name("control".into())
                    .spawn(move || answer(client, &*device))
            });
            if let Err(why) = started {
                tracing::warn!(%why, "a client of the control socket was not served");
            }
        }
    };
    std::thread::Builder::new()
        .name("listener".into())
        .spawn(work)
        .map(drop)
}

fn answer(client: UnixStream, device: &dyn Device) {
    let mut line = String::new();
    let read = client
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| BufReader::new((&client).take(LINE_MAX)).read_line(&mut line));
    if read.is_err() || line.is_empty() {
        return;
    }
    let (verb, reply) = match serde_json::from_str::<Request>(&line) {
        Ok(Request { r#do: verb }) => (Some(verb), Reply::from(obey(verb, device))),
        Err(why) => (
            None,
            Reply::from(Err(Error::new(ErrorKind::Refused, why.to_string()))),
        ),
    };
    let over = verb == Some(Verb::Unmap) && (reply.ok.is_some() || device.is_down());
    let mut text = serde_json::to_vec(&reply).unwrap_or_default();
    text.push(b'\n');
    if let Err(why) = (&client).write_all(&text) {
        tracing::warn!(%why, "a client of the control socket did not take its answer");
    }
    if over {
        device.over();
    }
}

fn obey(verb: Verb, device: &dyn Device) -> Result<Option<Info>, Error> {
    tracing::info!(?verb, "asked");
    match verb {
        Verb::Status => return Ok(Some(device.info())),
        Verb::Freeze => device.freeze(),
        Verb::Thaw => device.thaw(),
        Verb::Resize => device.resize(),
        Verb::Unmap => device.unmap(),
    }
    .inspect_err(|why| tracing::warn!(?verb, %why, "refused"))
    .map(|()| None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A device whose node went away while it was taken down.
    #[derive(Default)]
    struct Torn(AtomicBool);

    impl Device for Torn {
        fn freeze(&self) -> Result<(), Error> {
            Ok(())
        }
        fn thaw(&self) -> Result<(), Error> {
            Ok(())
        }
        fn resize(&self) -> Result<(), Error> {
            Ok(())
        }
        fn unmap(&self) -> Result<(), Error> {
            Err(Error::new(ErrorKind::NotRunning, "the node does not run"))
        }
        fn info(&self) -> Info {
            unreachable!("nobody asks")
        }
        fn is_down(&self) -> bool {
            true
        }
        fn over(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Its process stayed for ever, with no place in the registry by which to find it.
    #[test]
    fn a_device_that_went_down_badly_is_over_as_well() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"{\"do\":\"unmap\"}\n").unwrap();
        let device = Torn::default();
        answer(theirs, &device);
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        assert_eq!(said, "{\"error\":\"the node does not run\"}\n");
        assert!(device.0.load(Ordering::Relaxed));
    }
}

//! A volume as an NBD address: putting it there, and taking it down.

use std::fmt::Write;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use endpoint::control::{self, Device};
use endpoint::daemon::Ready;
use endpoint::error::{Error, ErrorKind};
use endpoint::keeper::Legacy;
use endpoint::{Backend, Info, Keeper, Mapped, Order, Past, Place, Setting, memory, signals};

use crate::control::Handle;
use crate::server::{Options, Server, listen};
use crate::volume::VolumeExport;

/// What the process is called at the segment.
const NAME: &str = "archip-nbd";
/// Bytes that a socket's path may have (unix(7), without the NUL).
const PATH_MAX: usize = 107;
/// How long the last client may take to leave before it counts: one whose process has ended is
/// noticed in a moment.
const LEAVING: Duration = Duration::from_millis(500);
/// Permissions of the socket.
const MODE: u32 = 0o660;

/// What the process waits for.
enum Event {
    /// TERM.
    End,
    /// The server has ended.
    Ended,
    /// The device is down, and who asked for that knows.
    Told,
}

struct Address {
    mapped: Mapped,
    server: Handle,
    events: Sender<Event>,
}

/// Presents the volume until it is unmapped; goes on at the address that a killed process left.
///
/// # Errors
/// Everything that can keep the address from coming up, as a sentence; nothing is left then.
pub fn serve(
    options: &endpoint::Options,
    legacy: Option<Legacy>,
    ready: Ready,
) -> Result<(), Error> {
    let setting = options.load()?;
    memory::protect();
    match legacy {
        None => begin(options, &setting, ready),
        Some(legacy) => go_on(options, &setting, legacy, ready),
    }
}

/// After the death of a process: its clients were disconnected, and connect to its successor.
///
/// # Errors
/// None.
pub fn revive(_: &[OwnedFd]) -> io::Result<()> {
    Ok(())
}

fn begin(options: &endpoint::Options, setting: &Setting, ready: Ready) -> Result<(), Error> {
    let backend = Backend::open(setting.volume, setting.joiner(NAME), &[])?;
    let place = Place::smallest(&setting.run_dir, setting.gid)?;
    let listener = listener(&place.path("nbd"), setting.gid)?;
    let kept = vec![copy(&listener)?, place.lock_descriptor()?];
    let past = Past {
        id: place.id(),
        ..Past::default()
    };
    let keeper = || Keeper::start(options, kept, past);
    present(setting, place, backend, listener, keeper, ready)
}

fn go_on(
    options: &endpoint::Options,
    setting: &Setting,
    legacy: Legacy,
    ready: Ready,
) -> Result<(), Error> {
    let [listener, lock] = &legacy.descriptors[..] else {
        return Err(Error::new(
            ErrorKind::System,
            "not everything was inherited",
        ));
    };
    let (listener, lock, past) = (copy(listener)?, copy(lock)?, legacy.past);
    let keeper = Keeper::inherit(options, legacy)?;
    let Some(place) = Place::inherit(&setting.run_dir, past.id, setting.gid, lock)? else {
        keeper.over();
        return Ok(());
    };
    let backend = Backend::resume(setting.volume, setting.joiner(NAME), &[], &past)?;
    present(
        setting,
        place,
        backend,
        listener.into(),
        || Ok(keeper),
        ready,
    )
}

fn copy(descriptor: &impl AsFd) -> Result<OwnedFd, Error> {
    let again = descriptor.as_fd().try_clone_to_owned();
    again.map_err(Error::system("can't copy a descriptor"))
}

/// Serves at `listener` until the end.
fn present(
    setting: &Setting,
    place: Place,
    backend: Backend,
    listener: UnixListener,
    keeper: impl FnOnce() -> Result<Arc<Keeper>, Error>,
    ready: Ready,
) -> Result<(), Error> {
    let handle = backend.handle();
    ready.log_to(&setting.log_dir.join(format!("mapped-{}.log", place.id())))?;
    let export = VolumeExport::new(backend, setting.readonly);
    let server = Server::new(listener, export, Options::default())
        .map_err(Error::system("can't start a server"))?;
    let uri = uri(&setting.volume_name(), &place.path("nbd"));
    let control = control::listen(&place.path("control"), setting.gid)?;
    let (events, happened) = channel();
    let address = Arc::new(Address {
        mapped: Mapped::new(place, setting, "nbd", &uri, handle)?,
        server: server.handle(),
        events: events.clone(),
    });
    address.mapped.keep(keeper()?);
    let live = || {
        let ended = events.clone();
        start(server, move || drop(ended.send(Event::Ended)))?;
        // Nobody listens any more when the process is ending.
        signals::watch(move || drop(events.send(Event::End)))?;
        control::serve(control, address.clone()).map_err(Error::system("can't start a thread"))?;
        ready.say(&uri)?;
        tracing::info!(volume = setting.volume_name(), uri, "mapped");
        address.live(&happened)
    };
    let end = live();
    address.mapped.over();
    end
}

fn listener(path: &Path, gid: u32) -> Result<UnixListener, Error> {
    let len = path.as_os_str().len();
    if len > PATH_MAX {
        let why = format!(
            "the path of the socket, {}, has {len} bytes; {PATH_MAX} are possible: choose a \
             shorter RUN_DIR",
            path.display()
        );
        return Err(Error::new(ErrorKind::Config, why));
    }
    let what = format!("can't listen at {}", path.display());
    let listener = listen(path, MODE).map_err(Error::system(what.clone()))?;
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(path, None, Some(gid)).map_err(Error::system(what))?;
    }
    Ok(listener)
}

fn start(server: Server<VolumeExport>, ended: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let work = move || {
        memory::touch_stack();
        match server.run() {
            Ok(summary) => tracing::info!(?summary, "the server ended"),
            Err(why) => tracing::error!(%why, "the server failed"),
        }
        ended();
    };
    let started = std::thread::Builder::new()
        .name("volume".into())
        .spawn(work);
    started
        .map(drop)
        .map_err(Error::system("can't start a thread"))
}

/// `nbd+unix:///VOLUME?socket=PATH`, as the NBD project's `doc/uri.md` has it.
fn uri(volume: &str, socket: &Path) -> String {
    let mut uri = String::from("nbd+unix:///");
    escape(&mut uri, volume.as_bytes());
    uri.push_str("?socket=");
    escape(&mut uri, socket.as_os_str().as_bytes());
    uri
}

fn escape(uri: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(byte));
            }
            // A String takes everything.
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
}

impl Address {
    fn live(&self, events: &Receiver<Event>) -> Result<(), Error> {
        for event in events {
            match event {
                Event::Told => return Ok(()),
                Event::End => {
                    tracing::info!("asked to end: clients are disconnected");
                    self.close()?;
                    return Ok(());
                }
                // Without an order to end: the server failed, and that was logged.
                Event::Ended if !self.mapped.is_finished() => return self.close(),
                Event::Ended => {}
            }
        }
        Ok(())
    }

    /// Flushes and closes the volume, then lets the clients go.
    fn close(&self) -> Result<(), Error> {
        self.server.freeze();
        let end = self.mapped.finish();
        self.server.stop();
        end
    }
}

impl Device for Address {
    fn freeze(&self) -> Result<(), Error> {
        self.server.freeze();
        self.mapped
            .order(Order::Freeze)
            .inspect_err(|_| self.server.thaw())
    }

    fn thaw(&self) -> Result<(), Error> {
        let end = self.mapped.order(Order::Thaw);
        self.server.thaw();
        end
    }

    fn resize(&self) -> Result<(), Error> {
        self.mapped.order(Order::Resize)
    }

    fn unmap(&self) -> Result<(), Error> {
        self.mapped.check_closable()?;
        self.server.wait_clients(0, LEAVING);
        let mut pids: Vec<i32> = self
            .server
            .clients()
            .iter()
            .map(|client| client.pid)
            .collect();
        if !pids.is_empty() {
            pids.sort_unstable();
            pids.dedup();
            return Err(Error::busy(pids));
        }
        self.close()
    }

    fn info(&self) -> Info {
        self.mapped.info()
    }

    fn is_down(&self) -> bool {
        self.mapped.is_finished()
    }

    fn over(&self) {
        // The process is ending already when nobody listens.
        let _ = self.events.send(Event::Told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_an_address_is_escaped() {
        let uri = uri("a volume?", Path::new("/run/x y/mapped/0/nbd"));
        assert_eq!(
            uri,
            "nbd+unix:///a%20volume%3F?socket=/run/x%20y/mapped/0/nbd"
        );
    }
}

//! The server object: options, listener, and the way into the loop.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::control::Handle;
use crate::event_loop::EventLoop;
use crate::export::Export;

/// Bounds and waits of a server. Memory per connection: `read_ahead_bytes`, about 100 bytes for
/// each of `in_flight_max`, and what the backend gives out, up to `in_flight_bytes_max`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections at a time, at least 1; further ones wait in the listen queue.
    pub connections_max: u32,
    /// Requests of one connection that are taken and not yet answered, at least 1.
    pub in_flight_max: u16,
    /// Bytes of the backend's buffers that one connection may hold. One request is always let
    /// through, whatever its size.
    pub in_flight_bytes_max: usize,
    /// Bytes received ahead, at least 16 KiB (so that any option fits).
    pub read_ahead_bytes: usize,
    /// How long to poll the backend before sleeping, while something is outstanding there.
    pub spin: Duration,
    /// After a stop: how long clients may take to accept the last replies, and the backend to
    /// finish.
    pub grace: Duration,
    /// A line for people, in listings; may be empty.
    pub description: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 64,
            in_flight_max: 128,
            in_flight_bytes_max: 64 << 20,
            read_ahead_bytes: 32 << 10,
            spin: Duration::from_micros(20),
            grace: Duration::from_secs(5),
            description: String::new(),
        }
    }
}

/// What a server did, told when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections accepted.
    pub connections: u64,
    /// Operations that the backend had not completed when the grace was over.
    pub abandoned: usize,
}

/// An NBD server for one export on one listening unix socket.
pub struct Server<E> {
    listener: UnixListener,
    export: E,
    options: Options,
    handle: Handle,
}

impl<E: Export> Server<E> {
    /// Prepares a server; nothing is accepted before [`Server::run`].
    ///
    /// # Errors
    /// No eventfd could be made; or the options or the export's block sizes are out of bounds
    /// (kind `InvalidInput`).
    pub fn new(listener: UnixListener, export: E, options: Options) -> io::Result<Self> {
        check_options(&options)?;
        check_export(&export)?;
        Ok(Self {
            listener,
            export,
            options,
            handle: Handle::new()?,
        })
    }

    /// Steers this server.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves on this thread until stopped; then the export is dropped.
    ///
    /// # Errors
    /// The ring could not be made (kernels before 5.19, or a sandbox), or the kernel refused to
    /// wait on it. A client can cause none.
    pub fn run(self) -> io::Result<Summary> {
        let Self {
            listener,
            export,
            options,
            handle,
        } = self;
        EventLoop::new(listener, export, options, handle.shared())?.run()
    }
}

fn check_options(options: &Options) -> io::Result<()> {
    let sane = options.connections_max > 0
        && options.in_flight_max > 0
        && options.read_ahead_bytes >= 16 << 10;
    sane.then_some(()).ok_or_else(|| {
        let why = "connections_max or in_flight_max is 0, or read_ahead_bytes is below 16384";
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

fn check_export<E: Export>(export: &E) -> io::Result<()> {
    let blocks = export.block_sizes();
    let sane = blocks.minimum.is_power_of_two()
        && blocks.minimum <= 1 << 16
        && blocks.preferred.is_power_of_two()
        && blocks.preferred >= blocks.minimum.max(512)
        && blocks.maximum >= blocks.preferred
        && blocks.maximum <= 1 << 30
        && blocks.maximum.is_multiple_of(blocks.minimum)
        && export.name().len() <= crate::wire::STRING_SIZE_MAX;
    sane.then_some(()).ok_or_else(|| {
        let why = "the export's block sizes or name are not what the protocol allows";
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

/// Listens on a unix socket at `path` with permission bits `mode`. A socket file that nobody
/// listens on any more is replaced.
///
/// # Errors
/// `AddrInUse` when a server answers there or `path` is something else than a socket; otherwise
/// the error of the system call.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        let in_use = !found.file_type().is_socket() || UnixStream::connect(path).is_ok();
        if in_use {
            let why = format!("{} is in use", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

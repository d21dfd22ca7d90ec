//! NBD servers, ours and the others', each on a unix socket of its own.
//!
//! What always holds: a server is ready when its socket takes a connection, and gone when its
//! handle is dropped.

use crate::case::Trouble;
use crate::lab::{Node, VOLUME, program};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A running server.
pub struct Server {
    child: Child,
    uri: String,
    folder: TempDir,
}

impl Server {
    /// Where clients connect.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Our server over nothing: the ceiling of any server with the same client.
    pub fn null(size: u64) -> Result<Server, Trouble> {
        let folder = folder()?;
        let socket = folder.path().join("nbd.sock");
        let mut command = Command::new(program("archip-nbd-null")?);
        command
            .arg("--socket")
            .arg(&socket)
            .arg("--size")
            .arg(size.to_string());
        Server::start(command, folder, || at(&socket, "null"))
    }

    /// Our server over the volume of `node`, which prints its address once it listens.
    pub fn archip(node: &Node) -> Result<Server, Trouble> {
        let mut command = Command::new(program("archip-nbd")?);
        command
            .arg("--foreground")
            .arg("--config")
            .arg(&node.config().file);
        command
            .arg("--volume")
            .arg(String::from_utf8_lossy(VOLUME).as_ref());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let folder = folder()?;
        command.stderr(log(&folder)?);
        let child = command.spawn().map_err(Trouble::failed("archip-nbd"))?;
        let mut server = Server {
            child,
            uri: String::new(),
            folder,
        };
        if let Some(out) = server.child.stdout.take() {
            let read = BufReader::new(out).read_line(&mut server.uri);
            read.map_err(Trouble::failed("archip-nbd"))?;
        }
        server.uri.truncate(server.uri.trim_end().len());
        match server.uri.is_empty() {
            true => Err(server.ended("archip-nbd")),
            false => Ok(server),
        }
    }

    /// nbdkit's file plugin, through the page cache.
    pub fn nbdkit(file: &Path) -> Result<Server, Trouble> {
        let folder = folder()?;
        let socket = folder.path().join("nbd.sock");
        let mut command = Command::new("nbdkit");
        command
            .arg("--foreground")
            .arg("--unix")
            .arg(&socket)
            .arg("file")
            .arg(file);
        Server::start(command, folder, || at(&socket, ""))
    }

    /// qemu-nbd over a raw or qcow2 image, with this cache mode of qemu's.
    pub fn qemu(file: &Path, format: &str, cache: &str) -> Result<Server, Trouble> {
        let folder = folder()?;
        let socket = folder.path().join("nbd.sock");
        let mut command = Command::new("qemu-nbd");
        command
            .args(["--persistent", "--format", format, "--socket"])
            .arg(&socket);
        // Native AIO is qemu's own advice for O_DIRECT, and works with nothing else.
        let aio = match cache {
            "none" | "directsync" => "native",
            _ => "threads",
        };
        command.args([format!("--cache={cache}"), format!("--aio={aio}")]);
        command.arg(file);
        Server::start(command, folder, || at(&socket, ""))
    }

    fn start(
        mut command: Command,
        folder: TempDir,
        uri: impl Fn() -> Option<String>,
    ) -> Result<Server, Trouble> {
        let program = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log(&folder)?);
        let child = command.spawn().map_err(|why| match why.kind() {
            std::io::ErrorKind::NotFound => Trouble::Missing(format!("{program} is not installed")),
            _ => Trouble::Failed(format!("{program}: {why}")),
        })?;
        let mut server = Server {
            child,
            uri: String::new(),
            folder,
        };
        let start = Instant::now();
        while start.elapsed() < READY_WITHIN {
            if let Some(uri) = uri() {
                server.uri = uri;
                return Ok(server);
            }
            if let Ok(Some(_)) = server.child.try_wait() {
                return Err(server.ended(&program));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(Trouble::Failed(format!("{program} does not listen")))
    }
}

impl Server {
    /// It ended too early; its last line says why.
    fn ended(&self, program: &str) -> Trouble {
        let log = std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
        let why = log.lines().next_back().unwrap_or("it did not say why");
        Trouble::Failed(format!("{program} ended before it listened: {why}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < READY_WITHIN {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of an export, once its socket takes connections.
fn at(socket: &Path, export: &str) -> Option<String> {
    UnixStream::connect(socket).ok()?;
    Some(format!("nbd+unix:///{export}?socket={}", socket.display()))
}

/// Where a server's messages go.
const LOG: &str = "log";

fn log(folder: &TempDir) -> Result<File, Trouble> {
    File::create(folder.path().join(LOG)).map_err(Trouble::failed("a server's log"))
}

/// For a socket: a path that is short enough for one.
fn folder() -> Result<TempDir, Trouble> {
    tempfile::tempdir().map_err(Trouble::failed("temporary directory"))
}

/// An image of `size` bytes for `whom`, fully written; made if it is not there.
pub fn image(dir: &Path, whom: &str, format: &str, size: u64) -> Result<PathBuf, Trouble> {
    let image = dir.join(format!("{whom}.{format}"));
    if image.exists() {
        return Ok(image);
    }
    let raw = if format == "raw" {
        image.clone()
    } else {
        image.with_extension("source")
    };
    crate::raw::file::fill(&raw, size).map_err(Trouble::failed("image"))?;
    if format != "raw" {
        convert(&raw, format, &image)?;
        std::fs::remove_file(&raw).map_err(Trouble::failed("image"))?;
    }
    Ok(image)
}

fn convert(raw: &Path, format: &str, image: &Path) -> Result<(), Trouble> {
    let mut command = Command::new("qemu-img");
    command
        .args(["convert", "-f", "raw", "-O", format])
        .arg(raw)
        .arg(image);
    let status = command
        .status()
        .map_err(|why| Trouble::Missing(format!("qemu-img: {why}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Trouble::Failed(format!("qemu-img: {status}"))),
    }
}

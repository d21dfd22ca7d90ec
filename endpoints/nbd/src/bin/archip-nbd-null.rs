//! `archip-nbd-null`: this server over a backend that does nothing, or over memory.
//!
//! The first is the ceiling of an NBD client on this machine; the second is a disk for tests.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use archip_nbd::backends::{MemoryExport, NullExport};
use archip_nbd::{Export, Options, Server, listen};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Serve an NBD export that stores nothing (reads are zeros), or that lives in memory.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Unix socket to listen on.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Size of the export that stores nothing; suffixes K, M, G, T.
    #[arg(long, default_value = "1T", value_parser = parse_size)]
    size: u64,
    /// Keep the data in memory; the size of the export.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Refuse writes (only with --memory).
    #[arg(long, requires = "memory")]
    read_only: bool,
    /// Name of the export.
    #[arg(long, default_value = "null")]
    name: String,
    /// Microseconds to poll the backend before sleeping.
    #[arg(long, default_value_t = 20)]
    spin_us: u64,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let count: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    count
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is more than 64 bits hold".to_owned())
}

fn main() -> io::Result<()> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let arguments = Arguments::parse();
    match arguments.memory {
        None => serve(
            NullExport::new(&*arguments.name, arguments.size),
            &arguments,
        ),
        Some(size) => {
            let export = MemoryExport::new(&*arguments.name, size as usize)
                .with_read_only(arguments.read_only);
            serve(export, &arguments)
        }
    }
}

fn serve<E: Export>(export: E, arguments: &Arguments) -> io::Result<()> {
    let options = Options {
        spin: Duration::from_micros(arguments.spin_us),
        ..Options::default()
    };
    let server = Server::new(listen(&arguments.socket, 0o600)?, export, options)?;
    for signal in [SIGTERM, SIGINT] {
        let handle = server.handle();
        // SAFETY: Handle::stop only stores a flag and writes an eventfd, both of which a signal
        // handler may do.
        unsafe { signal_hook::low_level::register(signal, move || handle.stop()) }?;
    }
    let summary = server.run();
    std::fs::remove_file(&arguments.socket)?;
    summary.map(|_| ())
}

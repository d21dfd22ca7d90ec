//! export: a volume becomes a file, whose holes are the volume's zeros, or goes into a pipe.

use super::cli::Export;
use super::names::{any, shown};
use super::transfer::{PIECE, bar, failed, is_stream, stretches};
use super::why;
use crate::failure::Failure;
use crate::settings::Settings;
use client::{BlockStatus, Client, Hint, Name, Volume};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of a volume whose map is asked for at once.
const WINDOW: u64 = 64 << 30;
const EXPORT_FAILED: &str = "vlmc export failed";

/// Where an export goes.
enum Sink {
    /// A regular file: zeros become holes.
    Sparse(File),
    /// A pipe or a device: every byte is written.
    Plain(Box<dyn Write>),
}

impl Sink {
    fn open(path: &Path) -> io::Result<Sink> {
        if is_stream(path) {
            return Ok(Sink::Plain(Box::new(io::stdout().lock())));
        }
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(match file.metadata()?.is_file() {
            true => Sink::Sparse(file),
            false => Sink::Plain(Box::new(file)),
        })
    }

    fn put(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self {
            Sink::Plain(out) => out.write_all(bytes),
            Sink::Sparse(file) => stretches(bytes)
                .into_iter()
                .try_for_each(|(offset, bytes)| {
                    std::os::unix::fs::FileExt::write_all_at(file, bytes, at + offset as u64)
                }),
        }
    }

    /// `len` bytes of zeros come next.
    fn skip(&mut self, len: u64) -> io::Result<()> {
        match self {
            Sink::Plain(out) => io::copy(&mut io::repeat(0).take(len), out).map(drop),
            Sink::Sparse(_) => Ok(()),
        }
    }

    fn finish(self, size: u64) -> io::Result<()> {
        match self {
            Sink::Plain(mut out) => out.flush(),
            Sink::Sparse(file) => {
                file.set_len(size)?;
                file.sync_all()
            }
        }
    }
}

pub(super) fn export(settings: &Settings, args: &Export) -> Result<(), Failure> {
    let client = settings.client()?;
    let map = (any(&args.name)?, args.old.hint());
    let was_open = is_open(&client, map);
    let exported = copy(&client, map, args);
    if !was_open {
        // To read is to take the lock, which others may want; that there is none is no failure.
        let _ = client.close(map.0, map.1);
    }
    exported
}

fn is_open(client: &Client, (name, hint): (Name, Hint)) -> bool {
    let status = client.status(client.ports().mapperd, name, hint);
    let status = status
        .ok()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    status.is_some_and(|status| status["open_here"] == true)
}

fn copy(client: &Client, map: (Name, Hint), args: &Export) -> Result<(), Failure> {
    let told = why::because(client, map, EXPORT_FAILED);
    let volume = Volume::open(client, map.0, map.1).map_err(&told)?;
    let file_failed = failed(EXPORT_FAILED, &args.file);
    let mut sink = Sink::open(&args.file).map_err(&file_failed)?;
    let progress = bar(Some(volume.size())).with_message(shown(&args.name));
    let mut at = 0;
    while at < volume.size() {
        let stretches = volume.block_status(at, WINDOW).map_err(&told)?;
        for BlockStatus { offset, len, hole } in stretches {
            match hole {
                true => sink.skip(len).map_err(&file_failed)?,
                false => {
                    let told = |range| why::because_of_block(client, map, range, EXPORT_FAILED);
                    copy_out(&volume, &mut sink, (offset, len), told, &file_failed)?;
                }
            }
            at = offset + len;
            progress.set_position(at);
        }
    }
    progress.finish_and_clear();
    sink.finish(volume.size()).map_err(&file_failed)
}

fn copy_out<F: Fn(client::Error) -> Failure>(
    volume: &Volume,
    sink: &mut Sink,
    (offset, len): (u64, u64),
    told: impl Fn((u64, u64)) -> F,
    file_failed: &impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut buffer = vec![0; PIECE];
    let mut at = offset;
    while at < offset + len {
        let piece = &mut buffer[..(offset + len - at).min(PIECE as u64) as usize];
        let range = (at, piece.len() as u64);
        volume.read_at(piece, at).map_err(told(range))?;
        sink.put(piece, at).map_err(file_failed)?;
        at += piece.len() as u64;
    }
    Ok(())
}

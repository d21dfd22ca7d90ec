//! import and export: whole volumes from and to files and pipes.
//!
//! Zeros take no room on either side: an import does not write them into its new volume, an
//! export leaves holes in a regular file. What was imported is durable at the end, and a failed
//! import leaves no volume behind.

use super::cli::{Export, Import};
use super::names::{any, new, shown};
use crate::failure::Failure;
use crate::settings::Settings;
use client::{Client, Hint, Name, Volume};
use indicatif::{ProgressBar, ProgressStyle};
use mapfile::tool_name::NameRole;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes that are moved at once: a block, so that each is written once.
const PIECE: usize = 4 << 20;
/// Bytes that are looked at for zeros at once.
const GRAIN: usize = 64 << 10;
/// Sizes of volumes are multiples of this.
const SECTOR: u64 = 512;

const IMPORT_FAILED: &str = "vlmc import failed";
const EXPORT_FAILED: &str = "vlmc export failed";

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == 0)
}

/// The stretches of `bytes` that are not zero, as offset and bytes, neighbours joined.
fn stretches(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (index, grain) in bytes.chunks(GRAIN).enumerate() {
        let at = index * GRAIN;
        match found.last_mut() {
            _ if is_zero(grain) => {}
            Some((_, end)) if *end == at => *end = at + grain.len(),
            _ => found.push((at, at + grain.len())),
        }
    }
    found
        .into_iter()
        .map(|(at, end)| (at, &bytes[at..end]))
        .collect()
}

fn failed(sentence: &'static str, what: &Path) -> impl Fn(io::Error) -> Failure {
    move |e| Failure::new(format!("{sentence}: {}: {e}", what.display()))
}

fn is_stream(file: &Path) -> bool {
    file == Path::new("-")
}

fn bar(size: Option<u64>) -> ProgressBar {
    let bar = match size {
        Some(size) => ProgressBar::new(size),
        None => ProgressBar::no_length(),
    };
    let style =
        ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

// ---- import ----

pub(super) fn import(settings: &Settings, args: &Import) -> Result<(), Failure> {
    let name = new(&args.name, NameRole::Volume)?;
    let (source, size) = open_source(&args.file)?;
    let client = settings.client()?;
    let first = size.unwrap_or(PIECE as u64).next_multiple_of(SECTOR);
    client
        .create(name, first)
        .map_err(Failure::because("vlmc creation failed"))?;
    let filled = fill(&client, name, &args.file, source, size);
    if filled.is_err() {
        // The failure to tell is the first one.
        let _ = client.close(name, Hint::default());
        let _ = client.remove(name, Hint::default());
    }
    filled
}

/// The source and its size, where that is known before the end. A file without a size (a pipe,
/// a device of characters) is read to its end.
fn open_source(path: &Path) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    if is_stream(path) {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let mut file = File::open(path).map_err(failed(IMPORT_FAILED, path))?;
    let size = file
        .seek(SeekFrom::End(0))
        .and_then(|end| file.rewind().map(|()| end));
    match size {
        Ok(0) => {
            let text = format!("{IMPORT_FAILED}: {} is empty", path.display());
            Err(Failure::new(text))
        }
        Ok(size) => Ok((Box::new(file), Some(size))),
        Err(_) => Ok((Box::new(file), None)),
    }
}

fn fill(
    client: &Client,
    name: Name,
    path: &Path,
    mut source: Box<dyn Read>,
    size: Option<u64>,
) -> Result<(), Failure> {
    let told = Failure::because(IMPORT_FAILED);
    client.open(name, Hint::default()).map_err(&told)?;
    let mut volume = Volume::open(client, name, Hint::default()).map_err(&told)?;
    let progress = bar(size);
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        let count = read_full(&mut source, &mut buffer).map_err(failed(IMPORT_FAILED, path))?;
        if count == 0 {
            break;
        }
        let end = (at + count as u64).next_multiple_of(SECTOR);
        if end > volume.size() {
            client
                .resize(name, end.max(2 * volume.size()), false)
                .map_err(&told)?;
            volume = Volume::open(client, name, Hint::default()).map_err(&told)?;
        }
        for (offset, bytes) in stretches(&buffer[..count]) {
            volume.write_at(bytes, at + offset as u64).map_err(&told)?;
        }
        at += count as u64;
        progress.set_position(at);
    }
    if at == 0 {
        return Err(Failure::new(format!(
            "{IMPORT_FAILED}: {} is empty",
            path.display()
        )));
    }
    let end = at.next_multiple_of(SECTOR);
    if end < volume.size() {
        client.resize(name, end, true).map_err(&told)?;
    }
    progress.finish_and_clear();
    volume.flush().map_err(&told)?;
    client.close(name, Hint::default()).map_err(&told)
}

/// Reads until `buffer` is full or the source ends.
fn read_full(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

// ---- export ----

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
    let told = Failure::because(EXPORT_FAILED);
    let client = settings.client()?;
    let volume = Volume::open(&client, any(&args.name)?, args.old.hint()).map_err(&told)?;
    let file_failed = failed(EXPORT_FAILED, &args.file);
    let mut sink = Sink::open(&args.file).map_err(&file_failed)?;
    let progress = bar(Some(volume.size())).with_message(shown(&args.name));
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < volume.size() {
        let len = (volume.size() - at).min(PIECE as u64);
        let piece = &mut buffer[..len as usize];
        read_piece(&volume, piece, at).map_err(&told)?;
        sink.put(piece, at).map_err(&file_failed)?;
        at += len;
        progress.set_position(at);
    }
    progress.finish_and_clear();
    sink.finish(volume.size()).map_err(&file_failed)
}

/// Reads, but asks the map first: holes need not be read.
fn read_piece(volume: &Volume, piece: &mut [u8], at: u64) -> Result<(), client::Error> {
    let status = volume.block_status(at, piece.len() as u64)?;
    if status.iter().all(|stretch| stretch.hole) {
        piece.fill(0);
        return Ok(());
    }
    volume.read_at(piece, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_leave_zeros_out_and_join_neighbours() {
        let mut bytes = vec![0; 4 * GRAIN + 10];
        assert!(stretches(&bytes).is_empty());
        bytes[GRAIN] = 1;
        bytes[3 * GRAIN - 1] = 1;
        bytes[4 * GRAIN + 9] = 1;
        let found: Vec<(usize, usize)> = stretches(&bytes)
            .iter()
            .map(|(at, b)| (*at, b.len()))
            .collect();
        assert_eq!(found, [(GRAIN, 2 * GRAIN), (4 * GRAIN, 10)]);
    }

    #[test]
    fn short_reads_are_put_together() {
        let mut source: Box<dyn Read> = Box::new((&b"abc"[..]).chain(&b"defg"[..]));
        let mut buffer = [0; 5];
        assert_eq!(read_full(&mut source, &mut buffer).unwrap(), 5);
        assert_eq!(&buffer, b"abcde");
        assert_eq!(read_full(&mut source, &mut buffer).unwrap(), 2);
    }
}

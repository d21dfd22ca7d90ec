//! import and export: whole volumes from and to files and pipes.
//!
//! An import makes its volume, as large as the file, or (`--existing`) writes over the beginning of
//! one that is there and large enough. Zeros take no room on either side: a new volume has them already, an
//! export leaves holes in a regular file. What was imported is durable at the end, and a failed
//! import leaves no new volume behind.

use super::cli::{Export, Import};
use super::names::{any, existing, new, shown};
use crate::failure::Failure;
use crate::mapped;
use crate::settings::Settings;
use client::{BlockStatus, Client, ErrorKind, Hint, Name, Volume};
use indicatif::{ProgressBar, ProgressStyle};
use mapfile::tool_name::NameRole;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes that are moved at once: a block, so that each is written once.
const PIECE: usize = 4 << 20;
/// Bytes that are looked at for zeros at once.
const GRAIN: usize = 64 << 10;
/// Bytes of a volume whose map is asked for at once.
const WINDOW: u64 = 64 << 30;
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
    let name = existing(&args.name)?;
    let text = args.name.to_string_lossy();
    if let Some(mapped) = mapped::of_volume(settings.run_dir(), &text)? {
        let device = mapped.device;
        return Err(Failure::new(format!(
            "Volume {text} mapped on device {device}"
        )));
    }
    let (source, size) = open_source(&args.file)?;
    let client = settings.client()?;
    let told = Failure::because(IMPORT_FAILED);
    let fresh = match client.info(name, Hint::default()) {
        Ok(_) if args.existing => false,
        Ok(_) => {
            let text = format!("{IMPORT_FAILED}: {text} exists (--existing writes over it)");
            return Err(Failure::new(text));
        }
        Err(e) if args.existing => return Err(told(e)),
        Err(e) if e.kind() == ErrorKind::NotFound => true,
        Err(e) => return Err(told(e)),
    };
    if fresh {
        new(&args.name, NameRole::Volume)?;
        let first = size.unwrap_or(PIECE as u64).next_multiple_of(SECTOR);
        client
            .create(name, first)
            .map_err(Failure::because("vlmc creation failed"))?;
    }
    let target = Target {
        client: &client,
        name,
        fresh,
    };
    let filled = target.fill(&args.file, source, size);
    if filled.is_err() {
        // The failure to tell is the first one.
        let _ = client.close(name, Hint::default());
        if fresh {
            let _ = client.remove(name, Hint::default());
        }
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

/// Where an import goes.
struct Target<'a> {
    client: &'a Client,
    name: Name,
    /// It was made for this import: it holds zeros, and takes the size of what comes.
    fresh: bool,
}

impl Target<'_> {
    fn volume(&self) -> Result<Volume, Failure> {
        Volume::open(self.client, self.name, Hint::default())
            .map_err(Failure::because(IMPORT_FAILED))
    }

    fn fill(
        &self,
        path: &Path,
        mut source: Box<dyn Read>,
        size: Option<u64>,
    ) -> Result<(), Failure> {
        let told = Failure::because(IMPORT_FAILED);
        self.client
            .open(self.name, Hint::default())
            .map_err(&told)?;
        let mut volume = self.volume()?;
        let progress = bar(size);
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        loop {
            let count = read_full(&mut source, &mut buffer).map_err(failed(IMPORT_FAILED, path))?;
            if count == 0 {
                break;
            }
            volume = self.with_room(volume, at + count as u64)?;
            self.write(&volume, &buffer[..count], at).map_err(&told)?;
            at += count as u64;
            progress.set_position(at);
        }
        progress.finish_and_clear();
        if at == 0 {
            return Err(Failure::new(format!(
                "{IMPORT_FAILED}: {} is empty",
                path.display()
            )));
        }
        let end = at.next_multiple_of(SECTOR);
        if self.fresh && end < volume.size() {
            self.client.resize(self.name, end, true).map_err(&told)?;
        }
        volume.flush().map_err(&told)?;
        self.client.close(self.name, Hint::default()).map_err(&told)
    }

    /// The volume, grown to hold `end` bytes if it is ours to grow.
    fn with_room(&self, volume: Volume, end: u64) -> Result<Volume, Failure> {
        let end = end.next_multiple_of(SECTOR);
        if end <= volume.size() {
            return Ok(volume);
        }
        if !self.fresh {
            let name = self.name;
            let text = format!("{IMPORT_FAILED}: the file is larger than volume {name}");
            return Err(Failure::new(text));
        }
        self.client
            .resize(self.name, end.max(2 * volume.size()), false)
            .map_err(Failure::because(IMPORT_FAILED))?;
        self.volume()
    }

    fn write(&self, volume: &Volume, bytes: &[u8], at: u64) -> Result<(), client::Error> {
        let mut done = 0;
        for (offset, part) in stretches(bytes) {
            self.write_zeroes(volume, at + done as u64, (offset - done) as u64)?;
            volume.write_at(part, at + offset as u64)?;
            done = offset + part.len();
        }
        self.write_zeroes(volume, at + done as u64, (bytes.len() - done) as u64)
    }

    /// Zeros need no writing where there are zeros already.
    fn write_zeroes(&self, volume: &Volume, at: u64, len: u64) -> Result<(), client::Error> {
        if self.fresh || len == 0 {
            return Ok(());
        }
        for part in volume.block_status(at, len)? {
            if !part.hole {
                volume.write_zeroes(part.offset, part.len)?;
            }
        }
        Ok(())
    }
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
    let told = Failure::because(EXPORT_FAILED);
    let client = settings.client()?;
    let volume = Volume::open(&client, any(&args.name)?, args.old.hint()).map_err(&told)?;
    let file_failed = failed(EXPORT_FAILED, &args.file);
    let mut sink = Sink::open(&args.file).map_err(&file_failed)?;
    let progress = bar(Some(volume.size())).with_message(shown(&args.name));
    let mut at = 0;
    while at < volume.size() {
        let stretches = volume.block_status(at, WINDOW).map_err(&told)?;
        for BlockStatus { offset, len, hole } in stretches {
            match hole {
                true => sink.skip(len).map_err(&file_failed)?,
                false => copy_out(&volume, &mut sink, (offset, len), &told, &file_failed)?,
            }
            at = offset + len;
            progress.set_position(at);
        }
    }
    progress.finish_and_clear();
    sink.finish(volume.size()).map_err(&file_failed)
}

fn copy_out(
    volume: &Volume,
    sink: &mut Sink,
    (offset, len): (u64, u64),
    told: &impl Fn(client::Error) -> Failure,
    file_failed: &impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut buffer = vec![0; PIECE];
    let mut at = offset;
    while at < offset + len {
        let piece = &mut buffer[..(offset + len - at).min(PIECE as u64) as usize];
        volume.read_at(piece, at).map_err(told)?;
        sink.put(piece, at).map_err(file_failed)?;
        at += piece.len() as u64;
    }
    Ok(())
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

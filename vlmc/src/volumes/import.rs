//! import: a file or a pipe becomes a volume.
//!
//! It makes its volume, as large as the file, or (`--existing`) writes over the beginning of one
//! that is there and large enough. A new volume holds zeros already, so they are not written.
//! What was imported is durable at the end, and a failed import leaves no new volume behind.

use super::cli::Import;
use super::names::{existing, new};
use super::transfer::{PIECE, bar, failed, is_stream, stretches};
use crate::failure::Failure;
use crate::mapped;
use crate::settings::Settings;
use client::{Client, ErrorKind, Hint, Name, Volume};
use mapfile::tool_name::NameRole;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Sizes of volumes are multiples of this.
const SECTOR: u64 = 512;
const IMPORT_FAILED: &str = "vlmc import failed";

pub(super) fn import(settings: &Settings, args: &Import) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let text = args.name.to_string_lossy();
    if let Some(mapped) = mapped::of_volume(settings.run_dir(), &text)? {
        let device = &mapped.device;
        return Err(Failure::new(format!(
            "Volume {text} mapped on device {device}"
        )));
    }
    let (source, size) = open_source(&args.file)?;
    let client = settings.client()?;
    let fresh = !args.existing;
    if fresh {
        new(&args.name, NameRole::Volume)?;
        let first = size.unwrap_or(PIECE as u64).next_multiple_of(SECTOR);
        client.create(name, first).map_err(|e| match e.kind() {
            ErrorKind::Exists => {
                let text = format!("{IMPORT_FAILED}: {text} exists (--existing writes over it)");
                Failure::new(text)
            }
            _ => Failure::because("vlmc creation failed")(e),
        })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_reads_are_put_together() {
        let mut source: Box<dyn Read> = Box::new((&b"abc"[..]).chain(&b"defg"[..]));
        let mut buffer = [0; 5];
        assert_eq!(read_full(&mut source, &mut buffer).unwrap(), 5);
        assert_eq!(&buffer, b"abcde");
        assert_eq!(read_full(&mut source, &mut buffer).unwrap(), 2);
    }
}

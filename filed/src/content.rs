//! HASH and LIST.
//!
//! A page of LIST is made of whole directories, in the order of their names: the cursor is the six
//! bytes of a place as a number, so it stays valid whatever is made or removed meanwhile.

use crate::core::Core;
use crate::fs::Answer;
use crate::layout::Place;
use crate::marker::TEMPORARY;
use crate::object::Object;
use driver::{Buf, Detail, Digest, Errno, HashAlgorithm, Name, Reply};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

impl Core {
    pub(crate) async fn hash(
        self: Rc<Self>,
        name: Name,
        (offset, size): (u64, u64),
        algorithm: HashAlgorithm,
    ) -> Answer<Reply> {
        let object = self.find(&name).await?;
        let (read, buf) = self
            .read_from(&object, offset, Buf::new(size as usize))
            .await;
        read?;
        let job = move || {
            let mut content = buf.to_vec();
            let len = content.iter().rposition(|byte| *byte != 0);
            content.truncate(len.map_or(0, |at| at + 1));
            (algorithm.digest(&content), content)
        };
        let (digest, content) = self.fs.offload.run(job).await;
        self.store(&digest, &content).await?;
        let detail = Detail::Hash(digest);
        Ok(Reply {
            serviced: size,
            detail,
        })
    }

    /// Makes the object of a content, unless it is there. Whole under another name first: nobody
    /// ever finds a part of a content under its hash.
    async fn store(self: &Rc<Self>, digest: &Digest, content: &[u8]) -> Answer<()> {
        let name = digest.to_name();
        let held = self.hold_name(&name).await;
        match self.find_held(&held).await {
            Ok(object) => {
                self.sync_baseline().await?;
                return self.sync_entry(object.place).await;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let place = Place::hashed(&name);
        self.make_dirs(place).await?;
        let temporary = format!("{TEMPORARY}{:016x}", self.env.entropy.next_u64());
        let temporary = place.path(temporary.as_bytes());
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        let file = self.fs.open(temporary.clone(), exclusive).await?;
        let written = self.store_as(Object::new(name, file, place), content).await;
        let linked = match written {
            Ok(()) => self.fs.link(temporary.clone(), place.path(&name)).await,
            failed => failed,
        };
        self.fs.unlink(temporary).await?;
        match linked {
            // Another node stored the same.
            Ok(()) | Err(Errno::EXIST) => self.sync_place(place).await,
            failed => failed,
        }
    }

    async fn store_as(&self, object: Rc<Object>, content: &[u8]) -> Answer<()> {
        let buf = Buf::from_bytes(content);
        let (written, _) = self.write_to(&object, 0, buf, false).await;
        written?;
        self.fs.sync(&object).await
    }

    pub(crate) async fn list(self: Rc<Self>, cursor: u64, max: usize) -> Answer<Reply> {
        let dir = self.config.dir.clone();
        let page = self.fs.offload.run(move || list(&dir, cursor, max.max(1)));
        let (names, next) = page.await?;
        Ok(Detail::List { names, next }.into())
    }
}

/// The names from `cursor` on, whole directories, until there are `max`.
fn list(root: &Path, cursor: u64, max: usize) -> io::Result<(Vec<Name>, Option<u64>)> {
    let mut names = Vec::new();
    for (first, dir) in branches(root, 0, 4, cursor)? {
        for (second, dir) in branches(&dir, first, 2, cursor)? {
            for (third, dir) in branches(&dir, second, 0, cursor)? {
                if names.len() >= max {
                    return Ok((names, Some(third)));
                }
                names.extend(objects(&dir)?);
            }
        }
    }
    Ok((names, None))
}

/// Directories of two bytes, in order, whose number (`above` with the two bytes in their place,
/// `below` bytes before its end) leads to `cursor` or beyond.
fn branches(
    dir: &Path,
    above: u64,
    below: u32,
    cursor: u64,
) -> io::Result<Vec<(u64, std::path::PathBuf)>> {
    let mut found = Vec::new();
    for entry in entries(dir)? {
        let name = entry.file_name();
        let Ok(two) = <[u8; 2]>::try_from(name.as_bytes()) else {
            continue;
        };
        let number = above | u64::from(u16::from_be_bytes(two)) << (below * 8);
        let last = number | ((1 << (below * 8)) - 1);
        if last >= cursor && entry.file_type()?.is_dir() {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn objects(dir: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in entries(dir)? {
        let name = entry.file_name();
        let temporary = name.as_bytes().starts_with(TEMPORARY.as_bytes());
        if !temporary && entry.file_type()?.is_file() {
            names.extend(to_name(&name));
        }
    }
    Ok(names)
}

fn to_name(file: &OsStr) -> Option<Name> {
    Name::new(file.as_bytes()).ok()
}

/// A directory that was removed meanwhile has no entries.
fn entries(dir: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

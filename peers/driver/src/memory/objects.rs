//! The objects of a [`MemoryStore`](crate::MemoryStore), and what each operation does to them.
//!
//! Every object has two images: what a reader sees, and what a loss of power would leave.

use super::store::Outcome;
use crate::digest::strip_zeros;
use crate::{Buf, Detail, Errno, HashAlgorithm, Name, Op, Reply, Tag};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};

/// What a loss of power keeps or drops as one piece, in bytes.
const SECTOR: usize = 512;

/// Objects larger than this are refused, so that a wrong offset cannot eat the machine's memory.
const MAX_OBJECT: u64 = 1 << 30;

/// A removal belongs to no tag; a sync of any tag makes it durable.
const REMOVAL: Tag = Tag(u32::MAX);

#[derive(Default)]
pub(super) struct Objects(BTreeMap<Name, Object>);

#[derive(Default)]
struct Object {
    seen: Option<Vec<u8>>,
    durable: Option<Vec<u8>>,
    dirty: BTreeSet<Tag>,
}

/// For whom a change is made, and whether it is durable at once.
#[derive(Clone, Copy)]
struct How {
    tag: Tag,
    durable: bool,
}

impl Objects {
    pub(super) fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Read { name, offset, buf } => self.read(name, *offset, buf),
            Op::Write {
                name,
                offset,
                buf,
                fresh,
                ..
            } => self.write(name, *offset, buf, *fresh, how(op)),
            Op::Zeroes {
                name, offset, len, ..
            } => self.zeroes(name, *offset, *len, how(op)),
            Op::Truncate {
                name, size, fresh, ..
            } => self.truncate(name, *size, *fresh, how(op)),
            Op::Copy { src, dst, max, .. } => self.copy(src, dst, *max, how(op)),
            Op::Delete { name, .. } => self.delete(name, how(op)),
            Op::Info { name } => Ok(Detail::Size(self.existing(name)?.len() as u64).into()),
            Op::Hash {
                name,
                offset,
                size,
                algorithm,
            } => self.hash(name, *offset, *size, *algorithm),
            Op::List { cursor, max } => Ok(self.list(*cursor, *max)),
            // There is one place for everything.
            Op::Migrate { .. } => Ok(Detail::Moved(Box::default()).into()),
            Op::Acquire { .. }
            | Op::Release { .. }
            | Op::LockInfo { .. }
            | Op::Sync { .. }
            | Op::Forget { .. } => unreachable!("these belong to the driver"),
        }
    }

    pub(super) fn sync(&mut self, tag: Tag) {
        for object in self.0.values_mut() {
            if object.dirty.contains(&tag) || object.dirty.contains(&REMOVAL) {
                object.persist();
            }
        }
    }

    pub(super) fn lose_power(&mut self, choose: &dyn Fn() -> u64) {
        for object in self.0.values_mut() {
            object.lose_power(choose);
        }
        self.0.retain(|_, object| object.seen.is_some());
    }

    pub(super) fn content(&self, name: &Name) -> Option<&Vec<u8>> {
        self.0.get(name)?.seen.as_ref()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        let existing = self.0.iter().filter(|(_, object)| object.seen.is_some());
        existing.map(|(name, _)| name)
    }

    fn existing(&mut self, name: &Name) -> Result<&mut Vec<u8>, Errno> {
        let object = self.0.get_mut(name).ok_or(Errno::NOENT)?;
        object.seen.as_mut().ok_or(Errno::NOENT)
    }

    fn change(&mut self, name: &Name) -> &mut Object {
        self.0.entry(*name).or_default()
    }

    fn read(&mut self, name: &Name, offset: u64, buf: &Buf) -> Outcome {
        let content = self.existing(name)?;
        let from = content.get(offset as usize..).unwrap_or(&[]);
        let len = from.len().min(buf.len());
        buf.copy_in(0, &from[..len]);
        buf.zero(len..buf.len());
        Ok(Reply::bytes(buf.len() as u64))
    }

    fn write(&mut self, name: &Name, offset: u64, buf: &Buf, fresh: bool, how: How) -> Outcome {
        let end = checked_end(offset, buf.len() as u64)?;
        let object = self.change(name);
        let content = object.open(fresh);
        if !buf.is_empty() {
            content.resize(content.len().max(end), 0);
            buf.copy_out(0, &mut content[offset as usize..end]);
        }
        object.changed(how);
        Ok(Reply::bytes(buf.len() as u64))
    }

    fn zeroes(&mut self, name: &Name, offset: u64, len: u64, how: How) -> Outcome {
        let end = offset
            .checked_add(len)
            .filter(|end| *end <= i64::MAX as u64);
        let end = end.ok_or(Errno::INVAL)?;
        if let Ok(content) = self.existing(name) {
            let end = end.min(content.len() as u64);
            content[offset.min(end) as usize..end as usize].fill(0);
            self.change(name).changed(how);
        }
        Ok(Reply::bytes(len))
    }

    fn truncate(&mut self, name: &Name, size: u64, fresh: bool, how: How) -> Outcome {
        let size = checked_end(size, 0)?;
        if !fresh {
            self.existing(name)?;
        }
        let object = self.change(name);
        object.open(fresh).resize(size, 0);
        let durable = how.durable || fresh;
        object.changed(How { durable, ..how });
        Ok(Reply::default())
    }

    fn copy(&mut self, src: &Name, dst: &Name, max: u64, how: How) -> Outcome {
        let mut content = self.existing(src)?.clone();
        content.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        let copied = content.len() as u64;
        let object = self.change(dst);
        object.seen = Some(content);
        object.changed(how);
        Ok(Reply::bytes(copied))
    }

    fn delete(&mut self, name: &Name, how: How) -> Outcome {
        self.existing(name)?;
        let object = self.change(name);
        object.seen = None;
        object.changed(how);
        Ok(Reply::default())
    }

    fn hash(&mut self, name: &Name, offset: u64, size: u64, algorithm: HashAlgorithm) -> Outcome {
        let content = self.existing(name)?;
        let from = (offset as usize).min(content.len());
        let to = offset.saturating_add(size).min(content.len() as u64) as usize;
        let stripped = strip_zeros(&content[from..to.max(from)]).to_vec();
        let digest = algorithm.digest(&stripped);
        let object = self.change(&digest.to_name());
        let seen = object.seen.get_or_insert_default();
        if seen.len() < stripped.len() {
            *seen = stripped;
        }
        object.persist();
        let detail = Detail::Hash(digest);
        Ok(Reply {
            serviced: size,
            detail,
        })
    }

    /// Names in the order of their hash, because a cursor is a number and has to stay valid while
    /// names come and go.
    fn list(&self, cursor: u64, max: usize) -> Reply {
        let all = self.names().map(|name| (position(name), *name));
        let mut page: Vec<(u64, Name)> = all.filter(|(at, _)| *at >= cursor).collect();
        page.sort_unstable();
        let next = page.get(max.max(1)).map(|(at, _)| *at);
        let names = page
            .into_iter()
            .take_while(|(at, _)| next.is_none_or(|next| *at < next))
            .map(|(_, name)| name)
            .collect();
        Detail::List { names, next }.into()
    }
}

impl Object {
    fn open(&mut self, fresh: bool) -> &mut Vec<u8> {
        if fresh {
            self.seen = None;
        }
        self.seen.get_or_insert_default()
    }

    fn changed(&mut self, how: How) {
        if how.durable || how.tag == Tag::NONE {
            self.persist();
        } else {
            self.dirty.insert(how.tag);
        }
    }

    fn persist(&mut self) {
        self.durable = self.seen.clone();
        self.dirty.clear();
    }

    fn lose_power(&mut self, choose: &dyn Fn() -> u64) {
        let coin = || choose().is_multiple_of(2);
        if self.dirty.is_empty() {
            return;
        }
        if self.seen.is_none() || self.durable.is_none() {
            // A removal or a creation happened or did not; what was created may hold anything
            // of what was written, so the sectors are drawn below.
            if coin() {
                self.seen = self.durable.clone();
                return self.persist();
            }
        }
        if let Some(seen) = &self.seen {
            self.seen = Some(mix(
                self.durable.as_deref().unwrap_or_default(),
                seen,
                &coin,
            ));
        }
        self.persist();
    }
}

/// The durable image with some of the sectors, and maybe the length, of what was seen.
fn mix(durable: &[u8], seen: &[u8], coin: &dyn Fn() -> bool) -> Vec<u8> {
    let mut left = durable.to_vec();
    if coin() {
        left.resize(seen.len(), 0);
    }
    for (old, new) in left.chunks_mut(SECTOR).zip(seen.chunks(SECTOR)) {
        if coin() {
            let len = old.len().min(new.len());
            old[..len].copy_from_slice(&new[..len]);
        }
    }
    left
}

fn how(op: &Op) -> How {
    match *op {
        Op::Write { tag, durable, .. }
        | Op::Zeroes { tag, durable, .. }
        | Op::Truncate { tag, durable, .. }
        | Op::Copy { tag, durable, .. } => How { tag, durable },
        Op::Delete { durable, .. } => How {
            tag: REMOVAL,
            durable,
        },
        _ => unreachable!("no other operation changes an object"),
    }
}

fn checked_end(offset: u64, len: u64) -> Result<usize, Errno> {
    let end = offset
        .checked_add(len)
        .filter(|end| *end <= i64::MAX as u64);
    let end = end.ok_or(Errno::INVAL)?;
    if end > MAX_OBJECT {
        return Err(Errno::FBIG);
    }
    Ok(end as usize)
}

fn position(name: &Name) -> u64 {
    let hash: [u8; 32] = sha2::Sha256::digest(name.as_bytes()).into();
    u64::from_be_bytes(*hash.first_chunk().expect("32 bytes hold 8")) >> 1
}

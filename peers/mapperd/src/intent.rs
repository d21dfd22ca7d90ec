//! What a rename notes under both names, so that whoever takes one of the locks after a crash can
//! finish it or take it back.
//!
//! The note is an object of the map storage named like a chunk that no map can have, so that it is
//! never taken for a volume:
//!
//! ```text
//!  NAME_ffffffffffffffff:
//!  | "ARCHIP-RENAME-1\n" | old epoch u64 | new epoch u64 | chunks u64 | purge u8
//!                        | length u8 | old name | length u8 | new name |
//! ```
//!
//! What always holds:
//! - The rename is committed exactly when the new header has at least the new epoch, deleted or
//!   not. Epochs never go back, so once committed it stays so.
//! - While it is not committed, the old name has a note only if the new name has one: it is written
//!   after and removed before. So nobody can make another volume of the new name, whose epoch would
//!   look like a commit, without meeting the note.
//! - Committed, the old map goes, if its epoch says that it is the one that was renamed. Not
//!   committed, the new chunks go: as leftovers of a deleted volume they would look owned by it.
//! - The other name's lock is taken only where its side still matters; a note that is left behind
//!   on a side that does not matter any more is removed when that name is used.

use crate::errno::{Errno, Result};
use crate::job::Job;
use crate::load::Looked;
use crate::naming::{volume_of, wire};
use mapfile::{Epoch, HeaderName, ObjectName, Version};

const MAGIC: &[u8; 16] = b"ARCHIP-RENAME-1\n";
/// The longest note: two names of 89 bytes.
const LEN_MAX: u64 = 256;

/// A rename under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Intent {
    pub(crate) old: HeaderName,
    pub(crate) new: HeaderName,
    pub(crate) old_epoch: Epoch,
    pub(crate) new_epoch: Epoch,
    /// Chunks of the new map.
    pub(crate) chunks: u64,
    /// The old header object goes too: the volume moves to the new layout.
    pub(crate) purge: bool,
}

fn note_name(header: &HeaderName) -> ObjectName {
    header.chunk(u64::MAX)
}

impl Intent {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.old_epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.new_epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.chunks.to_le_bytes());
        bytes.push(u8::from(self.purge));
        for name in [&self.old, &self.new] {
            bytes.push(name.as_bytes().len() as u8);
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Intent> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (old_epoch, rest) = rest.split_first_chunk::<8>()?;
        let (new_epoch, rest) = rest.split_first_chunk::<8>()?;
        let (chunks, rest) = rest.split_first_chunk::<8>()?;
        let (&purge, rest) = rest.split_first()?;
        let (old, rest) = name_in(rest)?;
        let (new, _) = name_in(rest)?;
        Some(Intent {
            old,
            new,
            old_epoch: Epoch(u64::from_le_bytes(*old_epoch)),
            new_epoch: Epoch(u64::from_le_bytes(*new_epoch)),
            chunks: u64::from_le_bytes(*chunks),
            purge: purge != 0,
        })
    }
}

fn name_in(bytes: &[u8]) -> Option<(HeaderName, &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(len))?;
    Some((HeaderName::new(name).ok()?, rest))
}

impl Job {
    /// Writes the note under both names, durably: the new one first.
    pub(crate) async fn write_intent(&self, intent: &Intent) -> Result<()> {
        let bytes = intent.encode();
        for header in [&intent.new, &intent.old] {
            self.write_whole(header, &note_name(header), &bytes).await?;
        }
        Ok(())
    }

    async fn read_intent(&self, header: &HeaderName) -> Result<Option<Intent>> {
        let note = wire(note_name(header).as_bytes());
        let Some(bytes) = self.read_map(&note, 0, LEN_MAX).await? else {
            return Ok(None);
        };
        let intent = Intent::decode(&bytes);
        if intent.is_none() && bytes.starts_with(MAGIC) {
            tracing::error!(map = %header, "the note of an unfinished rename can't be read");
            return Err(Errno::IO);
        }
        // A note that was never finished: nothing came after it.
        Ok(intent)
    }

    /// Removes the note under `header`, durably, if it tells of this rename.
    async fn remove_note(&self, header: &HeaderName, intent: &Intent) -> Result<()> {
        match self.read_intent(header).await? {
            Some(other) if other != *intent => Ok(()),
            // Of a name of the old layout the lock is gone already.
            _ => self.delete_map_object(&note_name(header), None).await,
        }
    }

    /// Finishes or takes back the rename that a note under `header` tells of; its lock is held by
    /// this request. EBUSY: the other name matters, and is locked or in use.
    pub(crate) async fn settle_rename(&self, header: &HeaderName) -> Result<()> {
        let Some(intent) = self.read_intent(header).await? else {
            return Ok(());
        };
        tracing::warn!(old = %intent.old, new = %intent.new, "an unfinished rename is settled");
        if !self.needs_both(header, &intent).await? {
            return self.settle_alone(header, &intent).await;
        }
        let other = if intent.old == *header {
            &intent.new
        } else {
            &intent.old
        };
        let _inside = self.enter_also(&volume_of(other)?).ok_or(Errno::BUSY)?;
        let before = self.acquire_header(other).await?;
        let settled = self.settle(&intent).await;
        if !before || intent.purge {
            self.release_header(other).await;
        }
        settled.map(|_| ())
    }

    /// Whether what is under `header` cannot be settled without the other name's lock.
    async fn needs_both(&self, header: &HeaderName, intent: &Intent) -> Result<bool> {
        let as_old = intent.old == *header;
        Ok(match (self.is_committed(intent).await?, as_old) {
            (true, true) => false,
            // Two living maps would own the same objects.
            (true, false) => matches!(self.look(&intent.old).await?,
                Looked::Map(old) if !old.header.flags.deleted && old.header.epoch == intent.old_epoch),
            // Whoever renames may still commit, with the new name's lock.
            (false, true) => true,
            // The old name's note would take the next volume of the new name for a commit.
            (false, false) => self.read_intent(&intent.old).await?.as_ref() == Some(intent),
        })
    }

    async fn settle_alone(&self, header: &HeaderName, intent: &Intent) -> Result<()> {
        match (self.is_committed(intent).await?, intent.old == *header) {
            (true, true) => self.remove_old_map(intent).await?,
            (true, false) if intent.purge => {
                self.drop_old_lock(intent).await?;
                self.remove_note(&intent.old, intent).await?;
            }
            (true, false) => {}
            (false, _) => self.remove_chunks(&intent.new, intent.chunks).await?,
        }
        self.remove_note(header, intent).await
    }

    /// Both locks are held. True: the rename was committed, and is finished now.
    pub(crate) async fn settle(&self, intent: &Intent) -> Result<bool> {
        let committed = self.is_committed(intent).await?;
        if committed {
            self.finish_rename(intent).await?;
        } else {
            self.remove_note(&intent.old, intent).await?;
            self.remove_chunks(&intent.new, intent.chunks).await?;
            self.remove_note(&intent.new, intent).await?;
        }
        Ok(committed)
    }

    /// After the commit: the old map and the notes go.
    pub(crate) async fn finish_rename(&self, intent: &Intent) -> Result<()> {
        self.remove_old_map(intent).await?;
        self.drop_old_lock(intent).await?;
        self.remove_note(&intent.old, intent).await?;
        self.remove_note(&intent.new, intent).await
    }

    /// The lock of a name of the old layout is taken for its move alone, and has to go before the
    /// notes do: afterwards nobody would look for it.
    async fn drop_old_lock(&self, intent: &Intent) -> Result<()> {
        if !intent.purge {
            return Ok(());
        }
        match self.acquire_header(&intent.old).await {
            Ok(_) => self.release(&wire(intent.old.as_bytes())).await,
            Err(Errno::BUSY) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    async fn is_committed(&self, intent: &Intent) -> Result<bool> {
        match self.look(&intent.new).await? {
            Looked::Map(found) => Ok(found.header.epoch >= intent.new_epoch),
            Looked::Nothing => Ok(false),
            Looked::Foreign(error) => Err(error.into()),
        }
    }

    async fn remove_old_map(&self, intent: &Intent) -> Result<()> {
        let Looked::Map(old) = self.look(&intent.old).await? else {
            return Ok(());
        };
        if old.header.epoch != intent.old_epoch {
            return Ok(());
        }
        if !old.header.flags.deleted && !intent.purge {
            let header = old.deleted().encode();
            self.write_whole(&intent.old, &intent.old.as_object(), &header)
                .await?;
        }
        let chunks = match old.version() {
            Version::V2 => old.geometry().chunk_count(),
            Version::V0 | Version::V1 => 0,
        };
        self.remove_chunks(&intent.old, chunks).await?;
        match intent.purge {
            true => {
                let object = intent.old.as_object();
                self.delete_map_object(&object, Some(&intent.old)).await
            }
            false => Ok(()),
        }
    }

    async fn remove_chunks(&self, header: &HeaderName, chunks: u64) -> Result<()> {
        for chunk in 0..chunks {
            self.delete_map_object(&header.chunk(chunk), Some(header))
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let intent = Intent {
            old: HeaderName::new(b"old-volume").unwrap(),
            new: HeaderName::new(&[b'n'; 89]).unwrap(),
            old_epoch: Epoch(7),
            new_epoch: Epoch(u64::MAX),
            chunks: 3,
            purge: true,
        };
        let mut bytes = intent.encode();
        bytes.resize(LEN_MAX as usize, 0);
        assert_eq!(Intent::decode(&bytes), Some(intent));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_note_or_not(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&tail);
            let _ = Intent::decode(&bytes);
        }
    }
}

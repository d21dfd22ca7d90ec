//! What a rename notes under both names before the new header, so that whoever takes one of the
//! locks after a crash can finish it or take it back.
//!
//! The note is an object of the map storage named like a chunk that no map can have, so that it is
//! never taken for a volume:
//!
//! ```text
//!  NAME_ffffffffffffffff:
//!  | "ARCHIP-RENAME-1\n" | old epoch u64 | new epoch u64 | purge u8 | len u8 | old | len u8 | new |
//! ```
//!
//! What always holds: the rename is committed exactly when the new header has at least the new
//! epoch, deleted or not. Then only the old map that the note means, told by its epoch, is removed;
//! else the new chunks are, because as leftovers of a deleted volume they would look owned by it.

use crate::errno::{Errno, Result};
use crate::job::Job;
use crate::load::{Found, Looked};
use crate::naming::{volume_of, wire};
use crate::store::Durability;
use crate::volume::Volume;
use mapfile::layout::MapLayout;
use mapfile::{Epoch, HeaderName, MapObject, ObjectName, Version};

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
    /// The old header object goes too: the volume moves to the new layout.
    pub(crate) purge: bool,
}

fn note_name(header: &HeaderName) -> ObjectName {
    header.chunk(u64::MAX)
}

impl Intent {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.old_epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.new_epoch.0.to_le_bytes());
        bytes.push(u8::from(self.purge));
        for name in [&self.old, &self.new] {
            bytes.push(name.as_bytes().len() as u8);
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Intent> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (old_epoch, rest) = rest.split_first_chunk::<8>()?;
        let (new_epoch, rest) = rest.split_first_chunk::<8>()?;
        let (&purge, rest) = rest.split_first()?;
        let (old, rest) = name_in(rest)?;
        let (new, _) = name_in(rest)?;
        Some(Intent {
            old,
            new,
            old_epoch: Epoch(u64::from_le_bytes(*old_epoch)),
            new_epoch: Epoch(u64::from_le_bytes(*new_epoch)),
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
    /// Writes the note under both names, durably. `volume` is the new name's.
    pub(crate) async fn write_intent(&self, volume: &Volume, intent: &Intent) -> Result<()> {
        let bytes = intent.encode();
        for header in [&intent.old, &intent.new] {
            let note = note_name(header);
            self.write_map(volume, (&note, 0), &bytes, true, Durability::Now)
                .await?;
        }
        Ok(())
    }

    /// Removes the notes, durably.
    pub(crate) async fn remove_intent(&self, intent: &Intent) -> Result<()> {
        for header in [&intent.new, &intent.old] {
            self.delete_map_object(&note_name(header)).await?;
        }
        Ok(())
    }

    async fn read_intent(&self, header: &HeaderName) -> Result<Option<Intent>> {
        let note = wire(note_name(header).as_bytes());
        let Some(bytes) = self.read_map(&note, 0, LEN_MAX).await? else {
            return Ok(None);
        };
        let intent = Intent::decode(&bytes);
        if intent.is_none() && bytes.iter().any(|&byte| byte != 0) {
            tracing::error!(map = %header, "the note of an unfinished rename can't be read");
            return Err(Errno::IO);
        }
        // An empty note was never finished, so nothing came after it.
        Ok(intent)
    }

    /// Finishes or takes back the rename that a note under `header` tells of; its lock is held by
    /// this request. EBUSY: the other name is locked or in use.
    pub(crate) async fn settle_rename(&self, header: &HeaderName) -> Result<()> {
        let Some(intent) = self.read_intent(header).await? else {
            return Ok(());
        };
        tracing::warn!(old = %intent.old, new = %intent.new, "an unfinished rename is settled");
        let other = if intent.old == *header {
            &intent.new
        } else {
            &intent.old
        };
        let _inside = self.enter_also(&volume_of(other)?).ok_or(Errno::BUSY)?;
        let before = self.acquire_header(other).await?;
        let settled = self.settle(&intent).await;
        if !before {
            self.release_header(other).await;
        }
        settled.map(|_| ())
    }

    /// Both locks are held. True: the rename was committed, and is finished now.
    pub(crate) async fn settle(&self, intent: &Intent) -> Result<bool> {
        let volume = &Volume::new(volume_of(&intent.new)?);
        let committed = match self.look(&intent.new).await? {
            Looked::Map(found) => found.header.epoch >= intent.new_epoch,
            Looked::Nothing => false,
            Looked::Foreign(error) => return Err(error.into()),
        };
        if committed {
            self.remove_old_map(volume, intent).await?;
        } else {
            self.remove_new_chunks(intent).await?;
        }
        self.remove_intent(intent).await?;
        Ok(committed)
    }

    /// After the commit: the old map goes, if it is the one that was renamed.
    pub(crate) async fn remove_old_map(&self, volume: &Volume, intent: &Intent) -> Result<()> {
        let Looked::Map(old) = self.look(&intent.old).await? else {
            return Ok(());
        };
        if old.header.epoch != intent.old_epoch {
            return Ok(());
        }
        if !old.header.flags.deleted && !intent.purge {
            self.write_header(volume, &intent.old, old.deleted())
                .await?;
        }
        self.remove_chunks(&old).await?;
        match intent.purge {
            true => self.delete_map_object(&intent.old.as_object()).await,
            false => Ok(()),
        }
    }

    async fn remove_new_chunks(&self, intent: &Intent) -> Result<()> {
        let Looked::Map(old) = self.look(&intent.old).await? else {
            return Ok(());
        };
        let layout = MapLayout::new(Version::V2, old.header.geometry);
        let new = Found {
            header_name: intent.new.clone(),
            layout,
            ..old
        };
        self.remove_chunks(&new).await
    }

    /// Removes the chunk objects of a map.
    async fn remove_chunks(&self, found: &Found) -> Result<()> {
        for object in found.layout.objects() {
            if object == MapObject::Header {
                continue;
            }
            self.delete_map_object(&object.name(&found.header_name))
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

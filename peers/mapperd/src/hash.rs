//! HASH of a read-only map: every block is hashed, and a map of the hashes is made whose name is
//! their Merkle root (spec/choices.md). It can be done again at any time with the same result.

use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::job::{Job, Reply};
use crate::load::{Found, Looked};
use crate::naming::wire;
use crate::volume::Volume;
use crate::window;
use mapfile::entry::ZERO_BLOCK;
use mapfile::name::parse_hash;
use mapfile::{BlockSize, Entry, Epoch, Header, MapFlags, Names, ObjectName, VolumeName};
use xseg::protocol::NameRequest;

/// Objects hashed at once, at least: while one is hashed others are read and stored.
const WIDTH_MIN: usize = 8;

/// Objects hashed at once: enough for all processors, if the blocker is on this host, and to spare.
fn width() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    WIDTH_MIN.max(2 * processors)
}

fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Job {
    /// HASH: answers the name of the hashed map. EINVAL: a writable volume, or another block size
    /// than 4 MiB.
    pub(crate) async fn hash(&self) -> Result<Reply> {
        let name = self.volume_name()?;
        let entered = self.enter(&name, Access::Shared).await;
        let found = self.lookup(&name).await?;
        let usual = found.geometry().block_size() == BlockSize::DEFAULT;
        if !found.header.flags.readonly || !usual {
            return Err(Errno::INVAL);
        }
        let hashes = self.block_hashes(&found).await?;
        let root = hex(&mapfile::merkle_root(&hashes, self.core.merkle.get()));
        drop(entered);
        let root_name = VolumeName::new(root.as_bytes())?;
        let entered = self.enter(&root_name, Access::Alone).await;
        self.make_hashed(entered.volume(), &found, &hashes).await?;
        Ok(Reply::bytes(
            NameRequest(wire(root.as_bytes())).encode().to_vec(),
        ))
    }

    async fn block_hashes(&self, found: &Found) -> Result<Vec<[u8; 32]>> {
        let mut hashes = Vec::new();
        for page in found.pages() {
            let mut names = Names::new();
            let entries = self.entries_of(found, page, &mut names).await?;
            let first = found.layout.page_blocks(page).start;
            let blocks = (first..).zip(entries).map(|(index, entry)| {
                (
                    entry,
                    entry.name(&names, index),
                    found.geometry().block_len(index),
                )
            });
            let hashed = window::each(width(), blocks, async |(entry, name, len)| {
                self.block_hash(entry, &name, len.into()).await
            });
            for hash in hashed.await {
                hashes.push(hash?);
            }
        }
        Ok(hashes)
    }

    /// A block's hash; objects that Pithos made are named by it.
    async fn block_hash(&self, entry: Entry, name: &ObjectName, len: u64) -> Result<[u8; 32]> {
        if entry.is_zero() {
            return Ok(ZERO_BLOCK);
        }
        if let Some(hash) = parse_hash(name.as_bytes()).filter(|_| !entry.is_archip()) {
            return Ok(hash);
        }
        match self.hash_object(name, len).await {
            Ok(hash) => parse_hash(&hash).ok_or(Errno::IO),
            Err(Errno::NOENT) if entry.is_archip() => Ok(ZERO_BLOCK),
            Err(Errno::NOENT) => Err(Errno::IO),
            Err(errno) => Err(errno),
        }
    }

    async fn make_hashed(
        &self,
        volume: &Volume,
        source: &Found,
        hashes: &[[u8; 32]],
    ) -> Result<()> {
        let name = volume.name().header();
        match self.look(&name).await? {
            Looked::Map(found) if !found.header.flags.deleted => {
                let same = found.header.flags.readonly
                    && found.geometry() == source.geometry()
                    && self.block_hashes(&found).await? == hashes;
                return if same { Ok(()) } else { Err(Errno::EXIST) };
            }
            Looked::Foreign(_) => return Err(Errno::EXIST),
            Looked::Map(_) | Looked::Nothing => {}
        }
        let header = Header {
            geometry: source.geometry(),
            flags: MapFlags::SNAPSHOT,
            epoch: Epoch::NONE,
        };
        self.with_claim(volume, async |_| {
            let target = (&name, source.geometry());
            self.write_chunks(volume, target, async |_, blocks, names| {
                let here = &hashes[blocks.start as usize..blocks.end as usize];
                let entry = |(index, hash): (u64, &[u8; 32])| {
                    Ok(Entry::given(names, hex(hash).as_bytes(), index, false)?)
                };
                (blocks.start..).zip(here).map(entry).collect()
            })
            .await?;
            self.commit(volume, &name, header).await
        })
        .await
    }
}

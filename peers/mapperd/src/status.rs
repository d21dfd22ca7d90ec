//! STATUS and LOCKINFO: what is known of a volume, or of mapperd itself, as JSON.
//!
//! The answer's data is text, `serviced` its length. With ASSUME_V0 old maps are shown too. Nothing
//! is locked or changed.

use crate::errno::Result;
use crate::gate::Access;
use crate::job::{Job, Reply};
use crate::load::Found;
use mapfile::Names;
use serde_json::{Value, json};

/// How many blocks of a map have which kind of entry.
#[derive(Default)]
struct Blocks {
    own: u64,
    shared: u64,
    zero: u64,
}

impl Job {
    /// STATUS: of the volume that the target names; of the peer for an empty target.
    pub(crate) async fn status(&self) -> Result<Reply> {
        let value = match self.request.target.is_empty() {
            true => self.peer_status(),
            false => self.volume_status().await?,
        };
        Ok(Reply::bytes(value.to_string().into_bytes()))
    }

    fn peer_status(&self) -> Value {
        let counters = &self.core.counters;
        let open = self.core.table.held();
        json!({
            "peer": "mapperd",
            "map_version": self.core.config.map_version,
            "open_volumes": open.iter().map(|name| name.to_string()).collect::<Vec<_>>(),
            "under_way": self.core.under_way.get(),
            "waiting_for_locks": self.core.waiting.get(),
            "requests": counters.requests.get(),
            "failures": counters.failures.get(),
            "leases": counters.leases.get(),
            "objects_copied": counters.copies.get(),
            "objects_made": counters.fresh.get(),
            "missing_objects": counters.missing_objects.get(),
            "locks_lost": counters.locks_lost.get(),
        })
    }

    async fn volume_status(&self) -> Result<Value> {
        let name = self.volume_name()?;
        let entered = self.enter(&name, Access::Shared).await;
        let volume = &**entered.volume();
        let found = self.lookup(&name).await?;
        let blocks = self.count_blocks(&found).await?;
        let lock = self.lock_info(&volume.target()).await?;
        Ok(json!({
            "name": name.to_string(),
            "object": found.header_name.to_string(),
            "size": found.geometry().size(),
            "block_size": found.geometry().block_size().bytes(),
            "blocks": found.geometry().block_count(),
            "own_blocks": blocks.own,
            "shared_blocks": blocks.shared,
            "zero_blocks": blocks.zero,
            "version": found.version().number(),
            "epoch": found.header.epoch.0,
            "read_only": found.header.flags.readonly,
            "open_here": volume.is_held(),
            "lost": volume.is_lost(),
            "lock": lock,
        }))
    }

    async fn count_blocks(&self, found: &Found) -> Result<Blocks> {
        let mut blocks = Blocks::default();
        for page in found.pages() {
            let mut names = Names::new();
            let owner = names.owner(&found.header_name, found.header.epoch)?;
            for entry in self.entries_of(found, page, &mut names).await? {
                match (entry.is_zero(), entry.is_writable(&names, owner)) {
                    (true, _) => blocks.zero += 1,
                    (_, true) => blocks.own += 1,
                    (_, false) => blocks.shared += 1,
                }
            }
        }
        Ok(blocks)
    }

    /// LOCKINFO: who holds the volume's lock; the name need not exist.
    pub(crate) async fn lock_info_of_volume(&self) -> Result<Reply> {
        let entered = self.enter(&self.volume_name()?, Access::Shared).await;
        let report = self.lock_info(&entered.volume().target()).await?;
        Ok(Reply::bytes(json!(report).to_string().into_bytes()))
    }
}

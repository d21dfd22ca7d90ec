//! Blocklisting: nothing of a client instance lands any more, wherever it is and whatever it has
//! in flight.
//!
//! The monitors make a new map of the OSDs; an OSD that has it refuses the instance. An OSD that is
//! asked something waits for the newest map that the asker knows. So after every placement group
//! has answered us, everything that is done by anybody is done after the end of the dead.

use super::description::Found;
use crate::address::{bare, is_instance};
use crate::client::Client;
use crate::core::{Answer, Core};
use driver::Errno;

impl Core {
    /// Cuts off the clients of a lock's dead holder. It is a predecessor of ours, so what lives of
    /// this node is spared; and as only our own client takes its place, its map is enough.
    pub(super) async fn cut_off_dead(&self, found: &Found) -> Answer<()> {
        let living = self.locks.registry.members();
        let mut addresses = found.addresses();
        addresses.retain(|address| {
            !living
                .iter()
                .any(|member| bare(&member.address) == bare(address))
                && !self.locks.registry.is_settled(address)
        });
        self.blocklist(addresses, None).await
    }

    /// Cuts off every client that a lock names, except ourselves, in every pool that it names.
    pub(super) async fn cut_off_holder(&self, found: &Found) -> Answer<()> {
        let ours = &self.client.addresses;
        let mut addresses = found.addresses();
        addresses.retain(|address| !ours.iter().any(|our| bare(our) == bare(address)));
        let mut pools = found.pools();
        pools.push(self.pool_name.clone());
        pools.sort();
        pools.dedup();
        self.blocklist(addresses, Some(pools)).await
    }

    async fn blocklist(
        &self,
        mut addresses: Vec<String>,
        pools: Option<Vec<String>>,
    ) -> Answer<()> {
        addresses.retain(|address| {
            let cut = self.locks.cut.borrow();
            !cut.iter().any(|other| bare(other) == bare(address))
        });
        if addresses.is_empty() {
            return Ok(());
        }
        let (client, list) = (self.client.clone(), addresses.clone());
        let answer = self.offload.run(move || cut_off(&client, &list, pools));
        answer
            .await
            .map_err(|why| self.not_cut_off(&addresses, &why))?;
        self.locks.cut.borrow_mut().extend(addresses);
        Ok(())
    }

    fn not_cut_off(&self, addresses: &[String], why: &Failed) -> Errno {
        let (user, addresses) = (&self.client.user, addresses.join(" "));
        match why {
            Failed::Names(other) => {
                tracing::error!(
                    "{other:?}, which the lock names, is no client's address, so nobody is cut off \
                     and the lock stays; `rados lock break` removes it"
                );
                Errno::INVAL
            }
            Failed::Blocklist(Errno::ACCES | Errno::PERM) => {
                let advice = self.client.advice();
                tracing::error!(
                    "{user} may not blocklist {addresses}, so the lock stays; {advice}"
                );
                Errno::ACCES
            }
            Failed::Blocklist(why) => {
                tracing::error!(%why, "{addresses} cannot be blocklisted, so the lock stays");
                *why
            }
            Failed::Ask(pool, why) => {
                tracing::error!(
                    pool,
                    %why,
                    "{addresses} is blocklisted, but not every placement group answers, so the \
                     lock stays; ask again when they do"
                );
                *why
            }
        }
    }
}

/// What could not be done.
enum Failed {
    /// The lock says that this is an address.
    Names(String),
    Blocklist(Errno),
    /// A pool whose placement groups do not all answer.
    Ask(String, Errno),
}

/// Cuts off all or, where one of them is no instance's address, nobody. Blocks, for at most the
/// timeouts of the monitors and OSDs.
fn cut_off(client: &Client, list: &[String], pools: Option<Vec<String>>) -> Result<(), Failed> {
    // What stands in a lock anybody may have written.
    if let Some(other) = list.iter().find(|address| !is_instance(address)) {
        return Err(Failed::Names(other.clone()));
    }
    for address in list {
        client.blocklist(address).map_err(Failed::Blocklist)?;
        tracing::warn!(address, "blocklisted: its locks are taken from it");
    }
    client.cluster.wait_for_map().map_err(Failed::Blocklist)?;
    let Some(pools) = pools else {
        return Ok(());
    };
    let asker = client.with_patience().map_err(Failed::Blocklist)?;
    asker.wait_for_map().map_err(Failed::Blocklist)?;
    for pool in pools {
        // A pool that is gone has nobody who writes to it.
        match asker.ask_every_group(&pool) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(why) => return Err(Failed::Ask(pool, why)),
        }
    }
    Ok(())
}

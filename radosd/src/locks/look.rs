//! A sync looks whether the locks are still ours. What was answered is durable, so that is all it does.
//!
//! Who was cut off hears so from any OSD. Who breaks a lock without cutting anybody off (`rados lock
//! break`, a node of the original) is noticed only by who looks at the lock; that question goes to an
//! OSD as well, so a sync asks one thing, either way.

use super::object;
use crate::core::{Answer, Core};
use crate::driver::NOTHING;
use driver::{Errno, Name, Tag};

impl Core {
    /// ESTALE: a lock of that tag was ours, and is not.
    pub(crate) async fn sync(&self, tag: Tag) -> Answer<()> {
        let volumes = self.held_of(tag);
        if volumes.is_empty() {
            return self.still_let_in().await;
        }
        for volume in volumes {
            self.look_at_lock(&volume).await?;
        }
        Ok(())
    }

    /// The volumes of a tag whose locks are ours: none in a driver of data, else one.
    fn held_of(&self, tag: Tag) -> Vec<Name> {
        let held = self.locks.held.borrow();
        let of_tag = held.keys().filter(|name| (self.tag_of)(name) == tag.0);
        of_tag.copied().collect()
    }

    async fn still_let_in(&self) -> Answer<()> {
        let nothing = Name::try_from(NOTHING).expect("a name");
        match self.stat(&nothing).await {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    async fn look_at_lock(&self, volume: &Name) -> Answer<()> {
        let object = object(volume)?;
        if self.has_lock(&object).await? {
            return Ok(());
        }
        // It may just have been given back: by us, in our turn.
        let _turn = self.turns.take(&object).await;
        if !self.locks.is_held(volume) || self.has_lock(&object).await? {
            return Ok(());
        }
        self.lose_lock(volume, &object).await;
        Err(Errno::STALE)
    }

    async fn has_lock(&self, object: &Name) -> Answer<bool> {
        let found = self.find(object).await?;
        Ok(found.is_some_and(|found| self.is_ours(&found)))
    }
}

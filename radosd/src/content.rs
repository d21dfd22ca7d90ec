//! HASH and LIST.
//!
//! **The order of a list.** A pool's objects lie in the order of their hash's reversed bits, which
//! is the order in which an OSD gives them, and in which a placement group is a range. A cursor is
//! such a reversed hash, so it stays valid whatever comes and goes, and across restarts. A page
//! never ends between two objects of the same hash.

use crate::core::{Answer, Core};
use crate::hash::reversed_hash;
use crate::sys::Steps;
use driver::{Buf, Detail, Errno, HashAlgorithm, Name, Reply, strip_zeros};

impl Core {
    pub(crate) async fn hash(
        &self,
        name: &Name,
        (offset, size): (u64, u64),
        algorithm: HashAlgorithm,
    ) -> Answer<Reply> {
        let _memory = self.copies.acquire().await;
        let bytes = if size == 0 {
            self.stat(name).await?;
            Vec::new()
        } else {
            let buf = Buf::new(size as usize);
            let (count, buf) = self.read_into(name, buf, size as usize, offset).await;
            let mut bytes = buf.to_vec();
            bytes.truncate(count?);
            bytes
        };
        let job = move || {
            let stripped = strip_zeros(&bytes).to_vec();
            (algorithm.digest(&stripped), stripped)
        };
        let (digest, content) = self.offload.run(job).await;
        self.store(&digest.to_name(), &content).await?;
        Ok(Reply {
            serviced: size,
            detail: Detail::Hash(digest),
        })
    }

    /// Makes the object that is named by its content.
    async fn store(&self, name: &Name, content: &[u8]) -> Answer<()> {
        if content.is_empty() {
            return match self.apply(name, Steps::new().create(true)).await {
                Err(Errno::EXIST) => Ok(()),
                answer => answer,
            };
        }
        let steps = Steps::new().create(true).write(content, 0);
        match self.apply(name, steps).await {
            Err(Errno::EXIST) => {}
            answer => return answer,
        }
        // B20: an object of that name has this content, whoever wrote it; but for one that a client
        // wrote piece by piece until its host died.
        match self.stat(name).await {
            Ok(size) if size < content.len() as u64 => {
                self.apply(name, Steps::new().write(content, 0)).await
            }
            found => found.map(drop),
        }
    }

    pub(crate) async fn list(&self, cursor: u64, max: usize) -> Answer<Reply> {
        let Ok(from) = u32::try_from(cursor) else {
            // What stands behind the last object.
            return Ok(page(Vec::new(), usize::MAX));
        };
        let mut wanted = max.max(1);
        loop {
            let pool = self.pool.clone();
            let listed = self.offload.run(move || pool.list(from, wanted + 1));
            let names = listed.await?;
            if names.len() <= wanted {
                return Ok(page(names, usize::MAX));
            }
            if let Some(end) = end_of_page(&names) {
                return Ok(page(names, end));
            }
            wanted *= 2;
        }
    }
}

/// Where the objects of the last hash begin, unless all have the same.
fn end_of_page(names: &[Vec<u8>]) -> Option<usize> {
    let last = reversed_hash(names.last()?);
    let before = names.iter().rposition(|name| reversed_hash(name) != last)?;
    Some(before + 1)
}

/// The first `end` names, and a cursor to what follows them.
fn page(names: Vec<Vec<u8>>, end: usize) -> Reply {
    let next = names.get(end).map(|name| u64::from(reversed_hash(name)));
    let names = names
        .iter()
        .take(end)
        // What is no name of ours was put there by somebody else.
        .filter_map(|name| Name::new(name).ok())
        .collect();
    Detail::List { names, next }.into()
}

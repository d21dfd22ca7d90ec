//! Objects that are named by their content. One appears with all of it or not at all: nobody ever
//! finds a part of a content under its hash. What a client stored by a plain write under such a name,
//! and a host's death left short, is completed by the next who has that content.

use crate::core::{Core, TRIES};
use crate::fs::{Answer, Piece};
use crate::layout::Place;
use crate::marker::TEMPORARY;
use crate::object::Object;
use driver::{Buf, Digest, Errno, Name};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::rc::Rc;

impl Core {
    /// Makes the object of a content, the first `len` bytes of `buf`, durably, unless it is there.
    pub(crate) async fn store(
        self: &Rc<Self>,
        digest: &Digest,
        buf: Buf,
        len: usize,
    ) -> (Answer<()>, Buf) {
        let name = digest.to_name();
        let held = self.hold_name(&name).await;
        match self.find_held(&held).await {
            Ok(object) => self.keep(&object, buf, len).await,
            Err(Errno::NOENT) => self.store_new(name, buf, len).await,
            Err(errno) => (Err(errno), buf),
        }
    }

    /// An object that is there already stays, also after a loss of power, with all of its content.
    async fn keep(&self, object: &Rc<Object>, buf: Buf, len: usize) -> (Answer<()>, Buf) {
        let (whole, buf) = match self.fs.size(object).await {
            Ok(size) if size < len as u64 => self.fill(object, buf, len).await,
            found => (found.map(drop), buf),
        };
        (self.stays(object, whole).await, buf)
    }

    async fn stays(&self, object: &Object, whole: Answer<()>) -> Answer<()> {
        whole?;
        self.sync_baseline().await?;
        self.sync_entry(object.place.get()).await
    }

    async fn store_new(&self, name: Name, buf: Buf, len: usize) -> (Answer<()>, Buf) {
        let place = Place::hashed(&name);
        let (file, temporary) = match self.new_file(place).await {
            Ok(new) => new,
            Err(errno) => return (Err(errno), buf),
        };
        let object = Object::new(name, file, place);
        let (filled, buf) = self.fill(&object, buf, len).await;
        let named = match filled {
            Ok(()) => self.give_name(&object, temporary.clone()).await,
            failed => failed,
        };
        (self.settle_name(named, place, temporary).await, buf)
    }

    /// A file that no reader finds: without a name, so that a death leaves nothing, or, where the
    /// filesystem has no such files, under the name that comes with it.
    async fn new_file(&self, place: Place) -> Answer<(OwnedFd, Option<CString>)> {
        if let Some(file) = self.fs.nameless().await? {
            return Ok((file, None));
        }
        let temporary = format!("{TEMPORARY}{:016x}", self.env.entropy.next_u64());
        let temporary = place.path(temporary.as_bytes());
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        for _ in 0..TRIES {
            match self.fs.open(temporary.clone(), exclusive).await {
                Err(Errno::NOENT) => self.make_dirs(place).await?,
                file => return Ok((file?, Some(temporary))),
            }
        }
        Err(Errno::NOENT)
    }

    /// Makes the first `len` bytes of `buf` an object's content, durably.
    async fn fill(&self, object: &Rc<Object>, buf: Buf, len: usize) -> (Answer<()>, Buf) {
        let padded = len.next_multiple_of(self.fs.block as usize);
        let (written, buf) = if padded <= buf.len() {
            buf.zero(len..padded);
            let piece = Piece {
                offset: 0,
                at: 0,
                len: padded,
            };
            self.fs.write(object, buf, piece, false).await
        } else {
            let content = Buf::from_bytes(&buf.to_vec()[..len]);
            (self.write_to(object, 0, content, false).await.0, buf)
        };
        match written {
            Ok(()) => (self.fs.sync(object).await, buf),
            failed => (failed, buf),
        }
    }

    async fn give_name(&self, object: &Rc<Object>, temporary: Option<CString>) -> Answer<()> {
        let place = object.place.get();
        for _ in 0..TRIES {
            let path = place.path(&object.name);
            let named = match &temporary {
                Some(temporary) => self.fs.link(temporary.clone(), path).await,
                None => self.fs.name(object, path).await,
            };
            match named {
                Err(Errno::NOENT) => self.make_dirs(place).await?,
                named => return named,
            }
        }
        Err(Errno::NOENT)
    }

    /// The end of a new object's making, whatever became of it.
    async fn settle_name(
        &self,
        named: Answer<()>,
        place: Place,
        temporary: Option<CString>,
    ) -> Answer<()> {
        if let Some(temporary) = temporary {
            self.fs.unlink(temporary).await?;
        }
        match named {
            // Another node stored the same.
            Ok(()) | Err(Errno::EXIST) => self.sync_place(place).await,
            failed => failed,
        }
    }
}

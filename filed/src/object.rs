//! One open object.

use crate::layout::Place;
use crate::ranges::{Held, Ranges};
use driver::{Name, Tag};
use reactor::types;
use std::cell::Cell;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// An object whose file is open. At most one of them per name is in the cache; one that is not any
/// more is used by nobody new.
pub(crate) struct Object {
    pub(crate) name: Name,
    pub(crate) file: OwnedFd,
    /// Where it was found, or has been moved to since; another node may have moved it further.
    pub(crate) place: Cell<Place>,
    /// Which bytes are being written.
    pub(crate) ranges: Ranges,
    /// Its tag and the sync generation in which it was put on that tag's list.
    pub(crate) mark: Cell<(Tag, u64)>,
    /// Whether it was used since the cache's hand came by.
    pub(crate) used: Cell<bool>,
    /// Whether it was deleted or replaced: who waited for it looks its name up again.
    pub(crate) gone: Cell<bool>,
}

impl AsRef<Ranges> for Object {
    fn as_ref(&self) -> &Ranges {
        &self.ranges
    }
}

impl Object {
    pub(crate) fn new(name: Name, file: OwnedFd, place: Place) -> Rc<Object> {
        Rc::new(Object {
            name,
            file,
            place: Cell::new(place),
            ranges: Ranges::default(),
            mark: Cell::new((Tag::NONE, 0)),
            used: Cell::new(true),
            gone: Cell::new(false),
        })
    }

    pub(crate) fn fd(&self) -> types::Fd {
        types::Fd(self.file.as_raw_fd())
    }

    /// Takes a range for writing.
    pub(crate) async fn take(self: &Rc<Self>, range: Range<u64>) -> Held<Object> {
        Ranges::take(self, range).await
    }
}

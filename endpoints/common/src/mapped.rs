//! One mapped volume: its entry in the registry and its backend, kept in step.

use crate::backend::{Handle, Order, State};
use crate::error::{Error, ErrorKind};
use crate::keeper::{Keeper, Past};
use crate::options::Setting;
use crate::registry::{Info, Place, start_time};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// An entry of the registry that follows its backend. The entry is there until
/// [`Mapped::finish`].
pub struct Mapped {
    place: Mutex<Option<Place>>,
    info: Info,
    handle: Handle,
    keeper: OnceLock<Arc<Keeper>>,
}

impl Mapped {
    /// Describes the volume of `setting`, presented as `device` by an endpoint of `kind`.
    pub fn new(
        place: Place,
        setting: &Setting,
        kind: &str,
        device: &str,
        handle: Handle,
    ) -> Result<Mapped, Error> {
        let info = Info {
            id: place.id(),
            volume: setting.volume_name(),
            device: device.to_owned(),
            kind: kind.to_owned(),
            pid: std::process::id(),
            keeper: 0,
            start_time: start_time(),
            readonly: setting.readonly,
            state: handle.state().as_str().to_owned(),
        };
        place.describe(&info)?;
        Ok(Mapped {
            place: Mutex::new(Some(place)),
            info,
            handle,
            keeper: OnceLock::new(),
        })
    }

    /// Has the past of this process kept from now on.
    pub fn keep(&self, keeper: Arc<Keeper>) {
        let told = keeper.clone();
        self.handle
            .on_first_write(move || told.tell(|past| past.wrote = true));
        // It is called once.
        let _ = self.keeper.set(keeper);
        self.tell_keeper();
        self.refresh();
    }

    fn tell_keeper(&self) {
        let Some(keeper) = self.keeper.get() else {
            return;
        };
        let frozen = self.handle.state() == State::Frozen;
        keeper.tell(|past| {
            *past = Past {
                id: self.info.id,
                size: self.handle.size(),
                wrote: self.handle.wrote(),
                frozen,
            };
        });
    }

    /// The process ends on purpose.
    pub fn over(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.over();
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What clients use.
    pub fn device(&self) -> &str {
        &self.info.device
    }

    /// Steers the backend.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The description, as of now.
    pub fn info(&self) -> Info {
        Info {
            state: self.handle.state().as_str().to_owned(),
            keeper: self.keeper.get().map_or(0, |keeper| keeper.pid()),
            ..self.info.clone()
        }
    }

    /// Brings the registry up to date.
    pub fn refresh(&self) {
        if let Some(place) = &*self.place()
            && let Err(why) = place.describe(&self.info())
        {
            tracing::warn!("{why}");
        }
    }

    /// Gives an order, and brings the registry up to date.
    pub fn order(&self, order: Order) -> Result<(), Error> {
        let end = self.handle.order(order);
        // Before anybody hears that it is done.
        self.tell_keeper();
        self.refresh();
        end
    }

    /// Whether [`Mapped::finish`] was done.
    pub fn is_finished(&self) -> bool {
        self.place().is_none()
    }

    /// That the volume can be closed now.
    pub fn check_closable(&self) -> Result<(), Error> {
        let why = match self.handle.state() {
            State::Running | State::Failed => return Ok(()),
            State::Frozen | State::Freezing => "it is frozen; start the node first",
            State::Waiting => "its node is away; start it first",
            State::Over => "it has been taken down",
        };
        Err(Error::new(ErrorKind::Refused, why))
    }

    /// Flushes and closes the volume, and leaves the registry. Done once: later calls wait for
    /// the first and succeed.
    pub fn finish(&self) -> Result<(), Error> {
        let mut place = self.place();
        let Some(place) = place.take() else {
            return Ok(());
        };
        let end = self.handle.order(Order::Finish);
        drop(place);
        end
    }
}

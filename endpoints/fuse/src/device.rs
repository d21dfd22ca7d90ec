//! A volume as `/dev/loopN`: putting it there, and taking it down.
//!
//! ```text
//!  backend -> session thread -> mount -> file -> loop device -> registry, control socket
//! ```
//! It goes the other way round: the loop device lets the file go, so the filesystem ends, so the
//! session says that it is gone; then the volume is flushed and closed. That end is the same
//! whether `unmap` asked for it or the last user of a device that TERM had detached.

use crate::abi;
use crate::disk::{self, Disk};
use crate::in_use;
use crate::mount::{self, Mount};
use crate::session::{News, Session};
use endpoint::backend::Reserve;
use endpoint::control::{self, Device};
use endpoint::daemon::Ready;
use endpoint::error::{Error, ErrorKind};
use endpoint::keeper::Legacy;
use endpoint::{
    Backend, Handle, Info, Keeper, Mapped, Options, Order, Past, Place, Setting, memory, signals,
};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the process is called at the segment.
const NAME: &str = "archip-fuse";
/// Buffers for what the kernel keeps under way: many small requests, some large ones.
const RESERVE: Reserve = &[(4 << 10, 128), (64 << 10, 32), (1 << 20, 16)];
/// How long a detached device may take to let its file go before it counts as busy.
const LETTING_GO: Duration = Duration::from_secs(5);
/// Programs that look at new block devices hold them for a moment: how often we look again.
const LOOKS: u32 = 10;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What the process waits for.
enum Event {
    News(News),
    /// TERM.
    End,
    /// The device is down, and who asked for that knows.
    Told,
}

#[derive(Default)]
struct Progress {
    gone: bool,
    unmapping: bool,
}

struct LoopDevice {
    mapped: Mapped,
    disk: Disk,
    /// `/dev/fuse` once more, to tell the kernel of a new size.
    kernel: OwnedFd,
    progress: Mutex<Progress>,
    changed: Condvar,
    events: Mutex<Sender<Event>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Presents the volume until it is unmapped; goes on with what a killed process left.
///
/// # Errors
/// Everything that can keep the device from coming up, as a sentence; nothing is left then.
pub fn serve(options: &Options, legacy: Option<Legacy>, ready: Ready) -> Result<(), Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::new(ErrorKind::System, "a loop device needs root"));
    }
    let setting = options.load()?;
    memory::protect();
    match legacy {
        None => begin(options, &setting, ready),
        Some(legacy) => go_on(options, &setting, legacy, ready),
    }
}

/// After the death of a process: what it had not answered comes once more, to its successor.
///
/// # Errors
/// The kernel can't (before Linux 6.9), so that nobody can follow.
pub fn revive(kept: &[OwnedFd]) -> io::Result<()> {
    let device = kept.first().ok_or(io::ErrorKind::InvalidData)?;
    nix::unistd::write(device, &abi::resend())?;
    Ok(())
}

fn begin(options: &Options, setting: &Setting, ready: Ready) -> Result<(), Error> {
    let backend = Backend::open(setting.volume, setting.joiner(NAME), RESERVE)?;
    let handle = backend.handle();
    let (sender, events) = channel();
    let what = "can't mount a FUSE filesystem";
    let device = mount::open_device().map_err(Error::system("can't open /dev/fuse"))?;
    let mount = Mount::new(device.as_fd()).map_err(Error::system(what))?;
    start_session(&device, backend, setting.readonly, sender.clone())?;
    let file = mount.open(&setting.volume_name(), setting.readonly);
    let file = file.map_err(Error::system("can't open the volume's file"))?;
    let (disk, place) = attach(setting, &file)?;
    // The loop device has it; with the loop device's end it ends.
    drop(file);
    let past = Past {
        id: place.id(),
        ..Past::default()
    };
    let present = || {
        let kept = vec![copy(&device)?, place.lock_descriptor()?];
        let device = LoopDevice::new(setting, place, disk.clone(), device, handle, sender, &ready)?;
        device.mapped.keep(Keeper::start(options, kept, past)?);
        device.present(ready, &events)
    };
    present().inspect_err(|_| {
        // ENXIO and the like: it is gone already.
        let _ = disk.detach();
    })
}

fn go_on(options: &Options, setting: &Setting, legacy: Legacy, ready: Ready) -> Result<(), Error> {
    let [device, lock] = &legacy.descriptors[..] else {
        return Err(Error::new(
            ErrorKind::System,
            "not everything was inherited",
        ));
    };
    let (device, lock, past) = (copy(device)?, copy(lock)?, legacy.past);
    let keeper = Keeper::inherit(options, legacy)?;
    let Some(place) = Place::inherit(&setting.run_dir, past.id, setting.gid, lock)? else {
        keeper.over();
        return Ok(());
    };
    let (sender, events) = channel();
    let joiner = setting.joiner(NAME);
    let backend = Backend::resume(setting.volume, joiner, RESERVE, &past)?;
    let handle = backend.handle();
    let again = copy(&device)?;
    let disk = Disk::of(past.id);
    let device = LoopDevice::new(setting, place, disk, device, handle, sender.clone(), &ready)?;
    device.mapped.keep(keeper);
    start_session(&again, backend, setting.readonly, sender)?;
    device.present(ready, &events)
}

fn copy(descriptor: &OwnedFd) -> Result<OwnedFd, Error> {
    let again = descriptor.try_clone();
    again.map_err(Error::system("can't copy a descriptor"))
}

/// Starts to serve the filesystem behind `device`.
fn start_session(
    device: &OwnedFd,
    backend: Backend,
    readonly: bool,
    news: Sender<Event>,
) -> Result<(), Error> {
    let tell = move |one| drop(news.send(Event::News(one)));
    let session = Session::new(copy(device)?, backend, readonly, tell);
    let started = std::thread::Builder::new()
        .name("volume".into())
        .spawn(move || session.run());
    started
        .map(drop)
        .map_err(Error::system("can't start a thread"))
}

/// Finds a free loop device and the registry's place of the same number.
fn attach(setting: &Setting, file: &File) -> Result<(Disk, Place), Error> {
    let what = "can't set up a loop device";
    for disk in disk::candidates().map_err(Error::system(what))? {
        let Some(place) = Place::take(&setting.run_dir, disk.minor(), setting.gid)? else {
            continue;
        };
        let name = setting.volume_name();
        let outcome = disk.attach(file, &name, setting.readonly);
        if matches!(outcome, Ok(true)) {
            return Ok((disk, place));
        }
        drop(place);
        outcome.map_err(Error::system(what))?;
    }
    Err(Error::new(
        ErrorKind::System,
        format!("{what}: none is free"),
    ))
}

impl LoopDevice {
    fn new(
        setting: &Setting,
        place: Place,
        disk: Disk,
        kernel: OwnedFd,
        handle: Handle,
        events: Sender<Event>,
        ready: &Ready,
    ) -> Result<Arc<LoopDevice>, Error> {
        ready.log_to(&setting.log_dir.join(format!("mapped-{}.log", place.id())))?;
        let listener = control::listen(&place.path("control"), setting.gid)?;
        let path = disk.path().display().to_string();
        let device = Arc::new(LoopDevice {
            mapped: Mapped::new(place, setting, "fuse", &path, handle)?,
            disk,
            kernel,
            progress: Mutex::default(),
            changed: Condvar::new(),
            events: Mutex::new(events.clone()),
        });
        // Nobody listens any more when the process is ending.
        signals::watch(move || drop(events.send(Event::End)))?;
        control::serve(listener, device.clone()).map_err(Error::system("can't start a thread"))?;
        Ok(device)
    }

    fn present(&self, ready: Ready, events: &Receiver<Event>) -> Result<(), Error> {
        let end = ready.say(self.mapped.device()).and_then(|()| {
            let info = self.mapped.info();
            tracing::info!(info.volume, info.device, "mapped");
            self.live(events)
        });
        self.mapped.over();
        end
    }

    /// Waits for the end.
    fn live(&self, events: &Receiver<Event>) -> Result<(), Error> {
        for event in events {
            match event {
                Event::News(News::State) => self.mapped.refresh(),
                Event::News(News::Gone) => {
                    lock(&self.progress).gone = true;
                    self.changed.notify_all();
                    let end = self.mapped.finish();
                    if !lock(&self.progress).unmapping {
                        return end;
                    }
                }
                Event::End => self.end(),
                Event::Told => return Ok(()),
            }
        }
        Ok(())
    }

    /// TERM: goes as soon as nobody uses the device; a mounted one goes on until then.
    fn end(&self) {
        tracing::info!("asked to end: the device goes when nobody uses it");
        if let Err(why) = self.disk.detach() {
            tracing::error!(%why, "can't detach {}", self.mapped.device());
        }
    }

    fn check_unused(&self) -> Result<(), Error> {
        if in_use::is_mounted(self.disk.minor()) {
            let why = "Device is mounted. Cannot unmap device.";
            return Err(Error::new(ErrorKind::Refused, why));
        }
        let mut users = Vec::new();
        for _ in 0..LOOKS {
            users = in_use::users(self.disk.path());
            if users.is_empty() && self.disk.is_unclaimed() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::busy(users))
    }

    fn wait_gone(&self) -> Result<(), Error> {
        let progress = lock(&self.progress);
        let waited = self
            .changed
            .wait_timeout_while(progress, LETTING_GO, |p| !p.gone);
        let (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if progress.gone {
            Ok(())
        } else {
            Err(Error::busy(in_use::users(self.disk.path())))
        }
    }

    fn take_down(&self) -> Result<(), Error> {
        self.mapped.check_closable()?;
        self.check_unused()?;
        self.disk.detach().map_err(Error::system(format!(
            "can't detach {}",
            self.mapped.device()
        )))?;
        self.wait_gone()?;
        self.mapped.finish()
    }
}

impl Device for LoopDevice {
    fn freeze(&self) -> Result<(), Error> {
        self.mapped.order(Order::Freeze)
    }

    fn thaw(&self) -> Result<(), Error> {
        self.mapped.order(Order::Thaw)
    }

    fn resize(&self) -> Result<(), Error> {
        self.mapped.order(Order::Resize)?;
        let what = format!("can't resize {}", self.mapped.device());
        nix::unistd::write(&self.kernel, &abi::size_changed())
            .map_err(Error::system(what.clone()))?;
        self.disk.follow_size().map_err(Error::system(what))
    }

    fn unmap(&self) -> Result<(), Error> {
        lock(&self.progress).unmapping = true;
        let end = self.take_down();
        // After a late failure the volume is closed or not, but the device is gone.
        if end.is_err() && !lock(&self.progress).gone {
            lock(&self.progress).unmapping = false;
        }
        end
    }

    fn info(&self) -> Info {
        self.mapped.info()
    }

    fn is_down(&self) -> bool {
        self.mapped.is_finished()
    }

    fn over(&self) {
        // The process is ending already when nobody listens.
        let _ = lock(&self.events).send(Event::Told);
    }
}

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
use endpoint::{Backend, Handle, Info, Mapped, Order, Place, Setting, memory, signals};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// Our own hold on the filesystem.
    file: Mutex<Option<File>>,
    /// `/dev/fuse` once more, to tell the kernel of a new size.
    kernel: OwnedFd,
    progress: Mutex<Progress>,
    changed: Condvar,
    events: Mutex<Sender<Event>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Presents the volume until it is unmapped.
///
/// # Errors
/// Everything that can keep the device from coming up, as a sentence; nothing is left then.
pub fn serve(setting: &Setting, ready: Ready) -> Result<(), Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::new(ErrorKind::System, "a loop device needs root"));
    }
    memory::protect();
    let backend = Backend::open(setting.volume, setting.joiner("archip-fuse"), RESERVE)?;
    let handle = backend.handle();
    let (sender, events) = channel();
    let (file, kernel) = mount(setting, backend, sender.clone())?;
    let (disk, place) = attach(setting, &file)?;
    let device = LoopDevice::new(
        setting,
        place,
        disk.clone(),
        (file, kernel),
        handle,
        sender,
        &ready,
    );
    device
        .and_then(|device| device.present(ready, &events))
        .inspect_err(|_| {
            // ENXIO and the like: it is gone already.
            let _ = disk.detach();
        })
}

/// Mounts the filesystem, starts to serve it, and opens the file: that, and `/dev/fuse`.
fn mount(
    setting: &Setting,
    backend: Backend,
    news: Sender<Event>,
) -> Result<(File, OwnedFd), Error> {
    let what = "can't mount a FUSE filesystem";
    let device = mount::open_device().map_err(Error::system("can't open /dev/fuse"))?;
    let mount = Mount::new(device.as_fd()).map_err(Error::system(what))?;
    let kernel = device.try_clone().map_err(Error::system(what))?;
    let tell = move |one| drop(news.send(Event::News(one)));
    let session = Session::new(device, backend, setting.readonly, tell);
    std::thread::Builder::new()
        .name("volume".into())
        .spawn(move || session.run())
        .map_err(Error::system(what))?;
    let file = mount.open(&setting.volume_name(), setting.readonly);
    file.map(|file| (file, kernel))
        .map_err(Error::system("can't open the volume's file"))
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
        place.remove();
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
        (file, kernel): (File, OwnedFd),
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
            file: Mutex::new(Some(file)),
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
        ready.say(self.mapped.device())?;
        let info = self.mapped.info();
        tracing::info!(info.volume, info.device, "mapped");
        self.live(events)
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
        lock(&self.file).take();
        if let Err(why) = self.disk.detach() {
            tracing::error!(%why, "can't detach {}", self.mapped.device());
        }
    }

    fn check_unused(&self) -> Result<(), Error> {
        let device = self.mapped.device();
        if in_use::is_mounted(self.disk.minor()) {
            let why = format!("{device}: Device is mounted. Cannot unmap device.");
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
        lock(&self.file).take();
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
        if let Some(file) = &*lock(&self.file) {
            // Before Linux 6.16 a loop device does not ask; so we do, for the kernel to know.
            file.metadata().map_err(Error::system(what.clone()))?;
        }
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

    fn over(&self) {
        // The process is ending already when nobody listens.
        let _ = lock(&self.events).send(Event::Told);
    }
}

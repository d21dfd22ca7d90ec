//! A guest: the program of `guest.S` on a disk, in a QEMU that Ganeti's hypervisor would start.
//!
//! QEMU connects to us, for its monitor (QMP) and the guest's serial port, so that nobody waits
//! for a socket to appear.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use system_tests::real::program;

const QEMU: &str = "qemu-system-x86_64";
/// Where `cargo xtask test --install` unpacks it, beside the folder of the programs.
const UNPACKED: &str = "beside";
/// How long QEMU may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// QEMU and the tools that make the guest.
pub(super) struct Hypervisor {
    qemu: PathBuf,
    /// Where its libraries are, if it was unpacked and not installed.
    libraries: Option<PathBuf>,
    boot_sector: Vec<u8>,
}

impl Hypervisor {
    /// What is needed; `None`, and a word, where it is not here.
    pub(super) fn find(test: &str, dir: &Path) -> Option<Hypervisor> {
        if !cfg!(target_arch = "x86_64") {
            eprintln!("skipped: {test}: the guest is a program for x86");
            return None;
        }
        let Some((qemu, libraries)) = find_qemu() else {
            eprintln!(
                "skipped: {test}: there is no {QEMU} (cargo xtask test --install unpacks one)"
            );
            return None;
        };
        Some(Hypervisor {
            qemu,
            libraries,
            boot_sector: assemble(test, dir)?,
        })
    }

    /// The guest's program, for the first sector of its disk.
    pub(super) fn boot_sector(&self) -> &[u8] {
        &self.boot_sector
    }

    /// Starts QEMU with the disk at `file`, as KVM is given it, and its sockets in `dir`;
    /// `incoming`: it waits for a guest.
    pub(super) fn start(&self, dir: &Path, file: &str, incoming: bool) -> Machine {
        std::fs::create_dir_all(dir).unwrap();
        let [monitor, serial] = ["monitor", "serial"].map(|name| {
            let path = dir.join(name);
            (UnixListener::bind(&path).unwrap(), path)
        });
        let mut command = Command::new(&self.qemu);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.args([
            "-accel", "tcg", "-machine", "pc", "-m", "16", "-display", "none",
        ]);
        command.args(["-nodefaults", "-no-user-config", "-S"]);
        let socket = |id: &str, path: &Path| format!("socket,id={id},path={}", path.display());
        command.arg("-chardev").arg(socket("monitor", &monitor.1));
        command.args(["-mon", "chardev=monitor,mode=control"]);
        command.arg("-chardev").arg(socket("serial", &serial.1));
        command.args(["-serial", "chardev:serial"]);
        // As Ganeti's hypervisor says it.
        command
            .arg("-drive")
            .arg(format!("file={file},format=raw,if=none,id=disk"));
        command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"]);
        if incoming {
            command.args(["-incoming", "defer"]);
        }
        let log = dir.join("qemu.log");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap());
        let child = command.spawn().unwrap();
        let mut process = Process { child, log };
        let monitor = process.accept(&monitor.0);
        let serial = process.accept(&serial.0);
        Machine::new(process, monitor, serial)
    }
}

fn find_qemu() -> Option<(PathBuf, Option<PathBuf>)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path)
        .map(|dir| dir.join(QEMU))
        .find(|file| file.is_file());
    if let Some(qemu) = installed {
        return Some((qemu, None));
    }
    let programs = program("archip-ganeti");
    let unpacked = programs.ancestors().nth(2)?.join(UNPACKED);
    let qemu = unpacked.join("usr/bin").join(QEMU);
    qemu.is_file()
        .then(|| (qemu, Some(unpacked.join("usr/lib/x86_64-linux-gnu"))))
}

/// The 512 bytes of the guest; `None`, and a word, without binutils.
fn assemble(test: &str, dir: &Path) -> Option<Vec<u8>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/ganeti/guest.S");
    let (object, binary) = (dir.join("guest.o"), dir.join("guest.bin"));
    let mut assembler = Command::new("as");
    assembler.arg("--32").arg("-o").arg(&object).arg(source);
    let mut linker = Command::new("ld");
    linker.args([
        "-m",
        "elf_i386",
        "--oformat",
        "binary",
        "-Ttext",
        "0x7c00",
        "-o",
    ]);
    linker.arg(&binary).arg(&object);
    for mut command in [assembler, linker] {
        match command.output() {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: {test}: there is no {:?}", command.get_program());
                return None;
            }
            output => {
                let output = output.unwrap();
                assert!(output.status.success(), "{output:?}");
            }
        }
    }
    let sector = std::fs::read(binary).unwrap();
    assert_eq!(sector.len(), 512);
    Some(sector)
}

/// QEMU's process, and where it complains; it ends with this.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn accept(&mut self, listener: &UnixListener) -> UnixStream {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        // Short turns, to notice that nobody will ever come.
        for _ in 0..PATIENCE.as_secs() * 10 {
            if poll(&mut fds, PollTimeout::from(100_u16)).unwrap() > 0 {
                let stream = listener.accept().unwrap().0;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            if self.child.try_wait().unwrap().is_some() {
                self.give_up("it ended");
            }
        }
        self.give_up("it did not connect")
    }

    /// Fails, with what is known of QEMU.
    fn give_up(&mut self, why: impl std::fmt::Display) -> ! {
        let status = self.child.try_wait();
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        panic!("QEMU: {why}; {status:?}; it said: {log}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or it is to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running QEMU.
pub(super) struct Machine {
    process: Process,
    monitor: BufReader<UnixStream>,
    words: Arc<Words>,
}

impl Machine {
    fn new(process: Process, monitor: UnixStream, serial: UnixStream) -> Machine {
        let mut machine = Machine {
            process,
            monitor: BufReader::new(monitor),
            words: Words::of(serial),
        };
        let greeting = machine.hear();
        assert!(greeting["QMP"].is_object(), "{greeting}");
        machine.ask("qmp_capabilities", json!({}));
        let events = json!([{ "capability": "events", "state": true }]);
        machine.ask(
            "migrate-set-capabilities",
            json!({ "capabilities": events }),
        );
        machine
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        match self.monitor.read_line(&mut line) {
            Ok(1..) => {}
            other => self
                .process
                .give_up(format_args!("its monitor is silent: {other:?}")),
        }
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"))
    }

    /// One command of QMP, and its answer.
    pub(super) fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({ "execute": command, "arguments": arguments });
        if let Err(why) = writeln!(self.monitor.get_mut(), "{request}") {
            self.process.give_up(format_args!("{command}: {why}"));
        }
        loop {
            let mut heard = self.hear();
            assert!(heard["error"].is_null(), "{command}: {heard}");
            if heard.get("return").is_some() {
                return heard["return"].take();
            }
        }
    }

    /// Lets the guest run.
    pub(super) fn go_on(&mut self) {
        self.ask("cont", json!({}));
    }

    /// Waits until the guest has gone, or come.
    pub(super) fn await_migration(&mut self) {
        loop {
            let heard = self.hear();
            let status = &heard["data"]["status"];
            assert_ne!(status, "failed", "{heard}");
            if heard["event"] == "MIGRATION" && status == "completed" {
                return;
            }
        }
    }

    /// How many writes of the disk were answered since this QEMU was started.
    pub(super) fn answered_writes(&mut self) -> u64 {
        let disks = self.ask("query-blockstats", json!({}));
        disks[0]["stats"]["wr_operations"].as_u64().unwrap()
    }

    /// What the guest has said here.
    pub(super) fn said(&self) -> String {
        self.words.text.lock().unwrap().0.clone()
    }

    /// Waits until the guest has said `count` further lines here.
    pub(super) fn await_lines(&self, count: usize) {
        let lines = |text: &str| text.matches('\n').count();
        let goal = lines(&self.said()) + count;
        let wanting = |words: &mut (String, bool)| !words.1 && lines(&words.0) < goal;
        let words = self.words.text.lock().unwrap();
        let waited = self.words.more.wait_timeout_while(words, PATIENCE, wanting);
        let (words, late) = waited.unwrap();
        let end = words.0.len().saturating_sub(50);
        assert!(
            !late.timed_out() && !words.1,
            "the guest is silent after {:?}",
            &words.0[end..]
        );
    }

    /// Ends QEMU, as Ganeti's hypervisor ends the source of a migration; what the guest has said.
    pub(super) fn quit(mut self) -> String {
        self.ask("stop", json!({}));
        self.ask("quit", json!({}));
        let status = self.process.child.wait().unwrap();
        assert!(status.success(), "QEMU ended with {status}");
        let words = self.words.text.lock().unwrap();
        let ended = self.words.more.wait_while(words, |words| !words.1);
        ended.unwrap().0.clone()
    }
}

/// What a guest says, taken in as it comes: a full socket would hold the guest up.
#[derive(Default)]
struct Words {
    /// And whether there will be no more.
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Words {
    fn of(serial: UnixStream) -> Arc<Words> {
        serial.set_read_timeout(None).unwrap();
        let words = Arc::new(Words::default());
        let heard = words.clone();
        // It ends with QEMU.
        std::thread::spawn(move || heard.listen(serial));
        words
    }

    fn listen(&self, mut serial: UnixStream) {
        let mut bytes = [0; 4096];
        loop {
            let read = serial.read(&mut bytes).unwrap_or(0);
            let mut words = self.text.lock().unwrap();
            words.0.push_str(&String::from_utf8_lossy(&bytes[..read]));
            words.1 = read == 0;
            self.more.notify_all();
            if read == 0 {
                return;
            }
        }
    }
}

//! How long Ganeti waits for `attach` of a mapped disk: from the start of a process to its end.

use super::Setting;
use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::goal::Goal;
use crate::histogram::Histogram;
use crate::lab::{Lab, Shape, VOLUME, Wanted, program};
use crate::servers::Server;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SKETCH: &str = "raw: fork, exec and the dynamic linker: 0.5 to 1 ms
attach: the same, the configuration (a file, two look-ups of accounts), the registry (a directory, \
a file for each mapped volume, /proc/PID/stat): 0.2 ms more, and no word to the node
another name: a seat at the node (240 descriptors), one request of two hops through mapperd and \
blockerm: 1 ms more";

const ATTACH: &str = "attach";

/// One case: a disk known by its volume's name, and one that has another name as well.
pub fn cases(setting: &Setting) -> Result<Vec<Case>, Trouble> {
    let lab = Lab::new(Wanted {
        parent: setting.memory.clone(),
        shape: Shape::One,
        direct: false,
        durable: false,
        volume: 8 << 20,
        rados: None,
    });
    let attach = |name: &'static str, cname| Attach {
        name,
        cname,
        lab: lab.clone(),
        mapped: None,
    };
    let case = Case::new(
        "ganeti/attach",
        "attach of a mapped disk, as Ganeti calls it",
        SKETCH,
        Metric::MedianMillis,
    );
    Ok(vec![
        case.wants(Goal::at_most(ATTACH, 20.0, "called at every turn"))
            .with(attach(ATTACH, None))
            .with(attach("attach, a name looked up", Some("not-a-volume")))
            .with(Raw),
    ])
}

struct Attach {
    name: &'static str,
    /// The disk's own name, which is no volume's: the node is asked.
    cname: Option<&'static str>,
    lab: Rc<Lab>,
    mapped: Option<Mapped>,
}

/// A mapped volume, and the script in a provider's directory.
struct Mapped {
    _server: Server,
    provider: TempDir,
    config: PathBuf,
}

impl Mapped {
    fn new(lab: &Lab) -> Result<Mapped, Trouble> {
        let node = lab.node()?;
        let failed = || Trouble::failed("provider's folder");
        let provider = tempfile::tempdir().map_err(failed())?;
        symlink(program("archip-ganeti")?, provider.path().join(ATTACH)).map_err(failed())?;
        Ok(Mapped {
            _server: Server::archip(node)?,
            provider,
            config: node.config().file.clone(),
        })
    }
}

impl Contender for Attach {
    fn name(&self) -> String {
        self.name.into()
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.mapped = Some(Mapped::new(&self.lab)?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let mapped = self.mapped.as_ref();
        let mapped = mapped.ok_or(Trouble::Failed("no volume".into()))?;
        repeat(budget, || {
            let mut command = clean(&mapped.provider.path().join(ATTACH));
            command
                .current_dir(mapped.provider.path())
                .env("ARCHIPELAGO_CONF", &mapped.config)
                .env("VOL_NAME", String::from_utf8_lossy(VOLUME).as_ref())
                .envs(self.cname.map(|cname| ("VOL_CNAME", cname)));
            command
        })
    }

    fn teardown(&mut self) {
        self.mapped = None;
    }
}

struct Raw;

impl Contender for Raw {
    fn name(&self) -> String {
        "raw: a program that does nothing".into()
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        repeat(budget, || clean(Path::new("/bin/true")))
    }
}

/// Ganeti clears the environment.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs commands for `budget`, once at least, and takes their output in.
fn repeat(budget: Duration, command: impl Fn() -> Command) -> Result<Turn, Trouble> {
    let mut latencies = Histogram::default();
    let start = Instant::now();
    loop {
        let begin = Instant::now();
        let output = command().output().map_err(Trouble::failed(ATTACH))?;
        latencies.record(begin.elapsed().as_nanos() as u64);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(Trouble::Failed(why.trim().to_owned()));
        }
        if start.elapsed() >= budget {
            return Ok(Turn::timed(start.elapsed(), latencies));
        }
    }
}

//! Ceph's own tools and Python's `rados`: how tests change a cluster, and look at it with eyes that
//! are not ours.

use crate::{Lab, keys};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// What a tool said.
#[derive(Debug)]
pub struct Output {
    /// Whether it succeeded.
    pub success: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// The first of the Debian packages that a cluster needs and that is not here.
pub fn missing() -> Option<&'static str> {
    const PROOFS: [(&str, &str); 5] = [
        ("ceph-mon", "/usr/bin/ceph-mon"),
        ("ceph-osd", "/usr/bin/ceph-osd"),
        ("ceph-common", "/usr/bin/rados"),
        (
            "python3-rados",
            "/usr/lib/python3/dist-packages/rados-2.0.0.egg-info",
        ),
        ("python3", "/usr/bin/python3"),
    ];
    PROOFS
        .iter()
        .find(|(_, proof)| !Path::new(proof).exists())
        .map(|(package, _)| *package)
}

/// Whether `test` can't run here; says so in one line that the test harness does not catch, and
/// that `cargo xtask test` counts.
pub fn skip(test: &str) -> bool {
    let Some(package) = missing() else {
        return false;
    };
    let line = format!("SKIP {test}: the Debian package {package} is not installed\n");
    // Where even that cannot be written nobody would read it.
    let _ = io::stderr().write_all(line.as_bytes());
    true
}

/// One session for any number of commands; a `ceph` call would cost a quarter of a second each.
const MON_COMMANDS: &str = r#"
import rados, sys
with rados.Rados(conffile=sys.argv[1]) as cluster:
    for line in sys.stdin:
        code, out, err = cluster.mon_command(line.strip(), b"", timeout=30)
        if code:
            sys.exit("%s: %d %s" % (line.strip(), code, err))
        print(out.decode().replace("\n", " "))
"#;

/// So many names reach each one of a few placement groups.
const PROBE: &str = r#"
import rados, sys
with rados.Rados(conffile=sys.argv[1]) as cluster:
    for pool in sys.argv[2:]:
        io = cluster.open_ioctx(pool)
        probes = [io.aio_remove("probe.%d" % i) for i in range(64)]
        for probe in probes:
            probe.wait_for_complete()
"#;

/// A running Python script; killed when dropped.
pub struct Python {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// What it says next, without the end of the line.
    pub fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Tells it something.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        let input = self.child.stdin.as_mut().expect("it was asked for");
        writeln!(input, "{line}")
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lab {
    /// Runs one of Ceph's programs on this cluster, without anything that the environment says.
    pub(crate) fn ceph(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.conf());
        command.env_remove("CEPH_ARGS").env_remove("CEPH_CONF");
        command
    }

    pub(crate) fn run(&self, command: &mut Command) -> io::Result<Output> {
        let output = command.stdin(Stdio::null()).output()?;
        let said = Output {
            success: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        match said.success {
            true => Ok(said),
            false => Err(io::Error::other(format!(
                "{}: {}{}",
                command.get_program().display(),
                said.out,
                said.err
            ))),
        }
    }

    /// Sends commands to the monitor, as `client.admin`, each one line of JSON; what each answered.
    pub fn mon_commands(&self, commands: &[String]) -> io::Result<Vec<String>> {
        let input = commands.join("\n") + "\n";
        let out = self.python(MON_COMMANDS, &[], input.as_bytes())?;
        Ok(out.lines().map(str::to_owned).collect())
    }

    /// Waits until every pool answers.
    pub fn wait_usable(&self) -> io::Result<()> {
        let pools: Vec<_> = self.options.pools.iter().map(String::as_str).collect();
        self.python(PROBE, &pools, b"").map(drop)
    }

    /// Runs a Python script as `client.admin`; `sys.argv` is `ceph.conf` and `arguments`. Fails
    /// with what it wrote to standard error, or after a minute.
    pub fn python(&self, script: &str, arguments: &[&str], input: &[u8]) -> io::Result<String> {
        let mut child = Command::new("timeout")
            .args(["60", "/usr/bin/python3", "-c", script])
            .arg(self.conf())
            .args(arguments)
            .env_remove("CEPH_ARGS")
            .env_remove("CEPH_CONF")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut pipe = child.stdin.take().expect("it was asked for");
        pipe.write_all(input)?;
        drop(pipe);
        let output = child.wait_with_output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(io::Error::other(format!(
                "python ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ))),
        }
    }

    /// Starts a Python script that is talked to by lines; `sys.argv` as for [`Lab::python`].
    pub fn start_python(&self, script: &str, arguments: &[&str]) -> io::Result<Python> {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-u", "-c", script])
            .arg(self.conf())
            .args(arguments)
            .env_remove("CEPH_ARGS")
            .env_remove("CEPH_CONF")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().expect("it was asked for");
        Ok(Python {
            child,
            output: BufReader::new(output),
        })
    }

    /// Runs the `rados` tool as `client.admin`; fails with what it said.
    pub fn rados(&self, arguments: &[&str]) -> io::Result<Output> {
        self.run(self.ceph("rados").args(arguments))
    }

    /// Makes another pool like those of the start. `client.archip` may use it only if it was among
    /// the `pools` of the options, or what was to come `later`.
    pub fn create_pool(&self, pool: &str) -> io::Result<()> {
        self.mon_commands(&self.pool_commands(pool)).map(drop)
    }

    /// Removes every object of a pool.
    pub fn purge(&self, pool: &str) -> io::Result<()> {
        self.rados(&["purge", pool, "--yes-i-really-really-mean-it"])
            .map(drop)
    }

    /// Gives `client.archip` these capabilities, or takes the one to blocklist away.
    pub fn set_capabilities(&self, user: &str, may_blocklist: bool, osd: &str) -> io::Result<()> {
        let mon = keys::mon_capability(may_blocklist).replace('"', "\\\"");
        let command = format!(
            r#"{{"prefix":"auth caps","entity":"client.{user}","caps":["mon","{mon}","osd","{osd}"]}}"#
        );
        self.mon_commands(&[command]).map(drop)
    }
}

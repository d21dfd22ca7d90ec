//! Durable create, snapshot and clone, beside the least that makes a new file durable.

use super::Setting;
use crate::case::{Case, Contender, Metric, Trouble, Turn, repeat};
use crate::goal::Goal;
use crate::lab::{Lab, Shape, Wanted, name};
use crate::raw::entry;
use client::{Client, Hint};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use xseg::Name;

const SKETCH: &str =
    "raw: create + write 4k + fsync + fsync of the directory: 2 journal commits, 1 unit
snapshot: source header, source chunks, snapshot chunks, snapshot header in this order: 4 units
clone: chunks, then header: 2 units; create: the same
version 2 of the map writes 128 bytes for each 4 MiB: 32 KiB for 1 GiB, 32 MiB for 1 TiB, twice in \
a snapshot";

const RAW: &str = "raw: create, write, fsync, fsync dir";

/// An operation on a volume of so many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Create,
    Snapshot,
    Clone,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            What::Create => "create",
            What::Snapshot => "snapshot",
            What::Clone => "clone",
        }
    }
}

/// One case for each size.
pub fn cases(setting: &Setting) -> Result<Vec<Case>, Trouble> {
    let parent = setting.disk.clone();
    let lab = Lab::new(Wanted {
        parent,
        shape: Shape::One,
        direct: true,
        durable: false,
        volume: 0,
        rados: None,
    });
    let case = |size: u64, title: &str| {
        let full = format!("durable create, snapshot and clone of {title}");
        let slug = title.replace(' ', "").to_lowercase();
        let mut case = Case::new(
            format!("snapshots/{slug}"),
            full,
            SKETCH,
            Metric::MedianMillis,
        );
        for (what, most) in [
            (What::Create, 2.0),
            (What::Snapshot, 4.0),
            (What::Clone, 2.0),
        ] {
            let ours = Ours {
                lab: lab.clone(),
                what,
                size,
                place: None,
                count: 0,
            };
            case = case
                .wants(Goal::at_most_times(&ours.name(), most, RAW))
                .with(ours);
        }
        case.with(Raw {
            dir: setting.disk.clone(),
            count: 0,
        })
    };
    Ok(vec![case(1 << 30, "1 GiB"), case(1 << 40, "1 TiB")])
}

struct Ours {
    lab: Rc<Lab>,
    what: What,
    size: u64,
    place: Option<(Client, Name)>,
    count: u32,
}

impl Ours {
    /// Makes the volume that the operation is done to: one with data at both ends, opened.
    fn prepare(&self) -> Result<(Client, Name), Trouble> {
        let client = self.lab.node()?.client()?;
        let gib = self.size >> 30;
        let source = name(format!("source-{gib}-{}", self.what.as_str()).as_bytes());
        let failed = |what: &'static str| Trouble::failed::<client::Error>(what);
        client.create(source, self.size).map_err(failed("create"))?;
        let volume =
            client::Volume::open(&client, source, Hint::default()).map_err(failed("open"))?;
        for at in [0, self.size - 4096] {
            volume
                .write_at(&[0x77; 4096], at)
                .map_err(failed("write"))?;
        }
        volume.flush().map_err(failed("flush"))?;
        if self.what != What::Clone {
            return Ok((client, source));
        }
        let snapshot = name(format!("parent-{gib}").as_bytes());
        client
            .snapshot(source, snapshot, Hint::default())
            .map_err(failed("snapshot"))?;
        Ok((client, snapshot))
    }
}

impl Contender for Ours {
    fn name(&self) -> String {
        self.what.as_str().into()
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.place = Some(self.prepare()?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let (client, source) = self
            .place
            .clone()
            .ok_or(Trouble::Failed("no volume".into()))?;
        repeat(budget, || {
            self.count += 1;
            let text = format!("{}-{}-{}", self.what.as_str(), self.size >> 30, self.count);
            let new = name(text.as_bytes());
            let start = Instant::now();
            match self.what {
                What::Create => client.create(new, self.size),
                What::Snapshot => client.snapshot(source, new, Hint::default()),
                What::Clone => client.clone_volume(source, new, self.size, Hint::default()),
            }
            .map_err(Trouble::failed(self.what.as_str()))?;
            let elapsed = start.elapsed();
            client
                .remove(new, Hint::default())
                .map_err(Trouble::failed("removal"))?;
            Ok(elapsed)
        })
    }

    fn teardown(&mut self) {
        self.place = None;
    }
}

struct Raw {
    dir: PathBuf,
    count: u32,
}

impl Contender for Raw {
    fn name(&self) -> String {
        RAW.into()
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let dir = self.dir.join("entries");
        std::fs::create_dir_all(&dir).map_err(Trouble::failed("directory"))?;
        repeat(budget, || {
            self.count += 1;
            let name = self.count.to_string();
            let start = Instant::now();
            entry::make(&dir, &name, 4096).map_err(Trouble::failed("file"))?;
            let elapsed = start.elapsed();
            std::fs::remove_file(dir.join(name)).map_err(Trouble::failed("removal"))?;
            Ok(elapsed)
        })
    }
}

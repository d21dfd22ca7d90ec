//! A node inside the tool, over the storage of one that does not run.

use crate::failure::Failure;
use crate::settings::Settings;
use client::Client;
use config::RoleKind;
use node::roles::Purpose;
use node::supervisor::launch::{is_rados, rados_programs};
use node::supervisor::{SupervisorError, become_user, make_directories};
use node::{Embedded, Storage};
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Room for its requests, MiB.
const HEAP_MIB: u64 = 64;

/// The node, and a place at it.
pub(crate) struct OwnNode {
    pub(crate) client: Client,
    node: Embedded,
}

impl OwnNode {
    /// One that takes no lock and changes nothing. It may run beside the node itself, over files.
    pub(crate) fn to_look(settings: &Settings) -> Result<OwnNode, Failure> {
        become_one_with_rados(settings)?;
        OwnNode::start(settings, Purpose::Look)
    }

    /// One that does all that the node would. It becomes the node's user first, this process with
    /// it, so that what it makes is the node's to use.
    pub(crate) fn to_serve(settings: &Settings) -> Result<OwnNode, Failure> {
        let sentence = |error: SupervisorError| {
            let cause = error.source().map(|why| format!(": {why}"));
            Failure::new(format!("{error}{}", cause.unwrap_or_default()))
        };
        become_one_with_rados(settings)?;
        make_directories(&settings.config).map_err(sentence)?;
        become_user(&settings.config).map_err(sentence)?;
        OwnNode::start(settings, Purpose::Serve)
    }

    fn start(settings: &Settings, purpose: Purpose) -> Result<OwnNode, Failure> {
        let what = match purpose {
            Purpose::Look => "be read",
            Purpose::Serve => "be used without it",
        };
        let failed = |e| {
            Failure::new(format!(
                "Archipelago is not running, and its storage can't {what}: {e}"
            ))
        };
        // Programs of their own are no part of it (poold).
        let mut roles = settings.config.roles.clone();
        roles.retain(|role| !matches!(role.kind, RoleKind::Poold(_)));
        let storage = Storage::Roles {
            roles,
            places: settings.config.archipelago.places(),
            purpose,
        };
        let node = Embedded::start(storage, HEAP_MIB).map_err(failed)?;
        let client = node.client().map_err(failed)?;
        Ok(OwnNode { client, node })
    }

    /// Ends it, and what it has under way.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        drop(self.client);
        let failed = |e| Failure::unexpected("the node inside this program failed", e);
        self.node.stop().map_err(failed)
    }
}

/// Storage in RADOS is for the same program with librados, where packages keep one apart: this
/// process becomes it. Returns when there is none, or when nobody needs it.
fn become_one_with_rados(settings: &Settings) -> Result<(), Failure> {
    let is_needed = settings
        .config
        .roles
        .iter()
        .any(|role| is_rados(&role.kind));
    let twin = || {
        let own = std::env::current_exe().ok()?;
        Some(rados_programs()?.join(own.file_name()?))
    };
    let Some(program) = is_needed.then(twin).flatten().filter(|twin| twin.is_file()) else {
        return Ok(());
    };
    let why = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(Failure::unexpected(
        format!("can't run {}", program.display()),
        why,
    ))
}

//! Why a peer does not end: who still has requests under way, and at which storage.
//!
//! The segment itself is looked at. A peer that stops answers no question about itself.

use crate::settings::Settings;
use config::{NodeConfig, RoleKind};
use node::supervisor::segment_socket;
use xseg::join::observe;
use xseg::report::Report;
use xseg::word::State;

/// The failure of a stop, in the original's words, and behind them why.
pub(super) fn sentence(settings: &Settings, role: &str) -> String {
    let failed = format!("Failed to stop peer {role}.");
    let under_way = under_way(&settings.config);
    match reason(&settings.config, &under_way) {
        Some(reason) => {
            format!("{failed} {reason}; `archipelago stop -f` kills what does not end")
        }
        None => failed,
    }
}

/// How many requests each role that lives has not answered, in the order of `ROLES`.
fn under_way(config: &NodeConfig) -> Vec<(String, u32)> {
    let Ok(observed) = observe(&segment_socket(config)) else {
        return Vec::new();
    };
    let alive = |seat| observed.alive.contains(seat);
    let report = Report::new(&observed.public, observed.private.as_ref(), &alive);
    let roles = config.roles.iter().map(|role| {
        let seats = report
            .members
            .iter()
            .filter(|m| m.alive && m.name == role.name);
        let slots = seats.flat_map(|m| report.regions.iter().filter_map(|r| r.seats.get(&m.seat)));
        let serving = slots.filter_map(|slots| slots.serves.get(&State::Serving));
        (role.name.clone(), serving.sum())
    });
    roles.filter(|(_, count)| *count > 0).collect()
}

/// Whoever has a storage is what the others wait for.
fn reason(config: &NodeConfig, under_way: &[(String, u32)]) -> Option<String> {
    let with_storage: Vec<_> = under_way
        .iter()
        .filter_map(|(name, count)| Some((name, *count, storage(config, name)?)))
        .map(|(name, count, at)| format!("{name} has {} under way at {at}", requests(count)))
        .collect();
    let others = under_way
        .iter()
        .map(|(name, count)| format!("{name} has {} under way", requests(*count)));
    let list = match with_storage.is_empty() {
        true => others.collect(),
        false => with_storage,
    };
    (!list.is_empty()).then(|| list.join(", "))
}

fn requests(count: u32) -> String {
    match count {
        1 => "1 request".into(),
        count => format!("{count} requests"),
    }
}

fn storage(config: &NodeConfig, role: &str) -> Option<String> {
    match &config.role(role)?.kind {
        RoleKind::RadosBlocker(rados) => Some(format!("the pool {}", rados.pool)),
        RoleKind::FileBlocker(files) => Some(files.archip_dir.display().to_string()),
        RoleKind::Mapperd(_) | RoleKind::Vlmcd(_) | RoleKind::Poold(_) => None,
    }
}

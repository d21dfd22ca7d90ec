//! Whether a request may go to the backend: one pure function over foreign numbers.
//!
//! Always true of what it lets through: the command is known, its flags belong to it, the range
//! lies in the export without overflow, is aligned, and is not empty; data is no longer than the
//! export's maximum; nothing that changes data reaches a read-only export.

use crate::error::{NbdError, Refusal};
use crate::export::BlockSizes;
use crate::wire::{Request, command, command_flag};

/// What the check needs to know of the export and of this connection.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Bytes of the export.
    pub size: u64,
    /// Its block sizes.
    pub blocks: BlockSizes,
    /// Writes are refused.
    pub read_only: bool,
    /// Structured replies were negotiated (so `DF` is a known flag).
    pub structured: bool,
    /// `base:allocation` was negotiated.
    pub status: bool,
}

/// What to do with a request that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read into a buffer, then answer with it.
    Read,
    /// Take the payload, then write it.
    Write,
    /// Submit; neither side moves data.
    Plain,
    /// Answer with success: there is nothing to do (a length of 0).
    Nothing,
    /// The client leaves; there is no answer.
    Disconnect,
}

/// Judges one request. The payload of a refused write must still be read and thrown away.
pub fn check(request: &Request, rules: &Rules) -> Result<Action, Refusal> {
    check_flags(request, rules)?;
    match request.command {
        command::DISC => Ok(Action::Disconnect),
        command::FLUSH if request.offset == 0 && request.len == 0 => Ok(Action::Plain),
        command::FLUSH => invalid("A flush has neither offset nor length."),
        command::BLOCK_STATUS if request.len == 0 => {
            invalid("The status of an empty range was asked for.")
        }
        _ => {
            check_access(request, rules)?;
            check_range(request, rules)?;
            Ok(action(request))
        }
    }
}

fn action(request: &Request) -> Action {
    match request.command {
        _ if request.len == 0 => Action::Nothing,
        command::READ => Action::Read,
        command::WRITE => Action::Write,
        _ => Action::Plain,
    }
}

/// Flags that a command may carry besides FUA, which the protocol allows on all of them.
fn check_flags(request: &Request, rules: &Rules) -> Result<(), Refusal> {
    let own = match request.command {
        command::READ if rules.structured => command_flag::DF,
        command::READ | command::WRITE | command::DISC | command::FLUSH | command::TRIM => 0,
        command::WRITE_ZEROES => command_flag::NO_HOLE | command_flag::FAST_ZERO,
        command::BLOCK_STATUS if rules.status => command_flag::REQ_ONE,
        command::BLOCK_STATUS => {
            return invalid("Block status was asked for without negotiating base:allocation.");
        }
        _ => return invalid("This server does not know that command."),
    };
    if request.flags & !(own | command_flag::FUA) != 0 {
        return invalid("The command carries a flag that does not belong to it.");
    }
    Ok(())
}

fn check_access(request: &Request, rules: &Rules) -> Result<(), Refusal> {
    if rules.read_only && changes_data(request.command) {
        return refuse(NbdError::Perm, "The export is read-only.");
    }
    Ok(())
}

fn check_range(request: &Request, rules: &Rules) -> Result<(), Refusal> {
    let end = request.offset.checked_add(u64::from(request.len));
    if end.is_none_or(|end| end > rules.size) {
        let error = match request.command {
            command::WRITE | command::WRITE_ZEROES => NbdError::NoSpace,
            _ => NbdError::Inval,
        };
        return refuse(error, "The range reaches past the end of the export.");
    }
    let unit = u64::from(rules.blocks.minimum.max(1));
    if !request.offset.is_multiple_of(unit) || !u64::from(request.len).is_multiple_of(unit) {
        return invalid("The range is not aligned to the minimum block size.");
    }
    let moves_data = matches!(request.command, command::READ | command::WRITE);
    if moves_data && request.len > rules.blocks.maximum {
        return invalid("The request is longer than the maximum block size.");
    }
    Ok(())
}

fn changes_data(command: u16) -> bool {
    matches!(
        command,
        command::WRITE | command::TRIM | command::WRITE_ZEROES
    )
}

fn invalid<T>(why: &'static str) -> Result<T, Refusal> {
    refuse(NbdError::Inval, why)
}

fn refuse<T>(error: NbdError, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { error, why })
}

//! librados: every call of it, and nothing else. (Unsafe lives here, and only here.)
//!
//! The declarations come from the crate `ceph`; those that it lacks stand at the end. Another
//! binding would replace this one file.
//!
//! The rules that make it sound:
//! 1. A [`Cluster`] is shut down when nobody has it any more, and each [`Pool`] has it; so no call
//!    is made on a handle that is gone.
//! 2. An operation's completion carries a boxed [`Flight`]. librados calls back exactly once for
//!    each operation that it took, and never for one that it refused; so the box is freed once.
//! 3. Memory that an operation reads into belongs to the caller until the call back; the functions
//!    that ask for it are unsafe and say so. What is written is copied before a call returns
//!    (`librados_c.cc` appends it to a buffer list of its own), and so are names.
//! 4. A watch's callbacks carry a pointer to the pool's [`Context`], which is freed only after
//!    `rados_watch_flush` has waited for the last of them.

use ceph::rados::{self as ffi, rados_ioctx_t, rados_t};
use driver::Errno;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

/// Takes what librados' own threads report. Must not block.
pub(crate) trait Sink: Send + Sync {
    /// The operation that was started with `token` ended with `result`.
    fn completed(&self, token: u64, result: i32);
    /// Somebody notified the watchers of what the watch `handle` watches.
    fn notified(&self, handle: u64, notify: u64);
}

/// A connection to a cluster: one client instance, with addresses of its own.
pub(crate) struct Cluster {
    raw: rados_t,
}

// SAFETY: librados locks its handles itself; its documentation allows calls from any thread.
unsafe impl Send for Cluster {}
// SAFETY: as above.
unsafe impl Sync for Cluster {}

impl Cluster {
    /// A client that is not connected yet; `user` is `client.ID`.
    pub(crate) fn new(user: &str) -> Result<Cluster, Errno> {
        let user = c_string(user)?;
        let mut raw = ptr::null_mut();
        // SAFETY: both strings end with NUL and are copied; `raw` takes the handle.
        check(unsafe { ffi::rados_create2(&mut raw, c"ceph".as_ptr(), user.as_ptr(), 0) })?;
        Ok(Cluster { raw })
    }

    /// Reads a configuration file.
    pub(crate) fn read_conf(&self, file: &Path) -> Result<(), Errno> {
        let file = c_string(file.to_string_lossy().as_ref())?;
        // SAFETY: rule 1; the string ends with NUL.
        check(unsafe { ffi::rados_conf_read_file(self.raw, file.as_ptr()) }).map(drop)
    }

    /// Sets one option of the configuration.
    pub(crate) fn set(&self, option: &CStr, value: &CStr) -> Result<(), Errno> {
        // SAFETY: rule 1; both strings end with NUL.
        check(unsafe { ffi::rados_conf_set(self.raw, option.as_ptr(), value.as_ptr()) }).map(drop)
    }

    /// One option of the configuration, as text of at most 1023 bytes.
    pub(crate) fn get(&self, option: &CStr) -> Option<String> {
        let mut text = [0u8; 1024];
        let buf = text.as_mut_ptr().cast();
        // SAFETY: rule 1; at most the array's length is written to it.
        let code = unsafe { ffi::rados_conf_get(self.raw, option.as_ptr(), buf, text.len()) };
        check(code).ok()?;
        let text = CStr::from_bytes_until_nul(&text).ok()?;
        Some(text.to_string_lossy().into_owned())
    }

    /// Finds the monitors and proves who we are. Blocks, at most `client_mount_timeout`.
    pub(crate) fn connect(&self) -> Result<(), Errno> {
        // SAFETY: rule 1.
        check(unsafe { ffi::rados_connect(self.raw) }).map(drop)
    }

    /// The cluster's id.
    pub(crate) fn fsid(&self) -> Result<String, Errno> {
        let mut text = [0u8; 64];
        let buf = text.as_mut_ptr().cast();
        // SAFETY: rule 1; at most the array's length is written to it.
        check(unsafe { ffi::rados_cluster_fsid(self.raw, buf, text.len()) })?;
        let text = CStr::from_bytes_until_nul(&text).map_err(|_| Errno::IO)?;
        Ok(text.to_string_lossy().into_owned())
    }

    /// The number of this instance: the `4123` of `client.4123`.
    pub(crate) fn instance(&self) -> u64 {
        // SAFETY: rule 1.
        unsafe { ffi::rados_get_instance_id(self.raw) }
    }

    /// This instance's addresses, as librados prints them.
    pub(crate) fn addresses(&self) -> Result<String, Errno> {
        let mut text: *mut c_char = ptr::null_mut();
        // SAFETY: rule 1; `text` takes a string that librados allocates.
        check(unsafe { rados_getaddrs(self.raw, &mut text) })?;
        if text.is_null() {
            return Err(Errno::IO);
        }
        // SAFETY: librados gave a string that ends with NUL, and it is ours now.
        let addresses = unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned();
        // SAFETY: it was allocated for the caller to free this way.
        unsafe { ffi::rados_buffer_free(text) };
        Ok(addresses)
    }

    /// Forbids the client instance at `address` everything for `seconds`, and waits until this
    /// client has the map that says so. Blocks for round trips to the monitors.
    pub(crate) fn blocklist(&self, address: &str, seconds: u32) -> Result<(), Errno> {
        let address = c_string(address)?;
        // SAFETY: rule 1; the string is only read, whatever its type says.
        let code = unsafe { rados_blocklist_add(self.raw, address.as_ptr().cast_mut(), seconds) };
        check(code).map(drop)
    }

    /// Waits until this client has the newest map of the OSDs. Blocks.
    pub(crate) fn wait_for_map(&self) -> Result<(), Errno> {
        // SAFETY: rule 1.
        check(unsafe { ffi::rados_wait_for_latest_osdmap(self.raw) }).map(drop)
    }

    /// Opens a pool.
    pub(crate) fn pool(self: &Arc<Self>, name: &str, sink: Arc<dyn Sink>) -> Result<Pool, Errno> {
        let name = c_string(name)?;
        let mut io = ptr::null_mut();
        // SAFETY: rule 1; `io` takes the handle.
        check(unsafe { ffi::rados_ioctx_create(self.raw, name.as_ptr(), &mut io) })?;
        // SAFETY: the handle was just made. A full pool then answers instead of waiting.
        unsafe { rados_set_pool_full_try(io) };
        Ok(Pool {
            io,
            context: Box::into_raw(Box::new(Context { sink })),
            cluster: self.clone(),
        })
    }

    /// Asks every placement group of a pool something; each has the newest map of the OSDs that this
    /// client knows before it answers. Blocks.
    pub(crate) fn ask_every_group(self: &Arc<Self>, name: &str) -> Result<(), Errno> {
        struct Nobody;
        impl Sink for Nobody {
            fn completed(&self, _: u64, _: i32) {}
            fn notified(&self, _: u64, _: u64) {}
        }
        let pool = self.pool(name, Arc::new(Nobody))?;
        // A group is one or two of so many equal parts of the order of its objects.
        let parts = self.groups(name)?.next_power_of_two();
        let (begin, end) = (Cursor::begin(&pool)?, Cursor::end(&pool)?);
        for part in 0..parts {
            let (from, to) = begin.slice(&end, part as usize, parts as usize)?;
            pool.list_between(from, &to, 1)?;
        }
        Ok(())
    }

    /// How many placement groups a pool has.
    fn groups(&self, pool: &str) -> Result<u32, Errno> {
        let command = serde_json::json!({
            "prefix": "osd pool get", "pool": pool, "var": "pg_num", "format": "json"
        });
        let answer = self.ask_monitors(&command.to_string())?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).map_err(|_| Errno::IO)?;
        let groups = answer["pg_num"].as_u64().ok_or(Errno::IO)?;
        u32::try_from(groups).map_err(|_| Errno::IO)
    }

    /// Sends a command to the monitors; its output. Blocks.
    fn ask_monitors(&self, command: &str) -> Result<Vec<u8>, Errno> {
        let command = c_string(command)?;
        let mut line = command.as_ptr();
        let (mut out, mut out_len) = (ptr::null_mut(), 0);
        // SAFETY: rule 1; one line that ends with NUL, no input, and room for the output's place.
        check(unsafe {
            ffi::rados_mon_command(
                self.raw,
                &mut line,
                1,
                ptr::null(),
                0,
                &mut out,
                &mut out_len,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        })?;
        if out.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: librados allocated so many bytes for us.
        let answer = unsafe { std::slice::from_raw_parts(out.cast::<u8>(), out_len) }.to_vec();
        // SAFETY: it is freed once, the way it is meant to be.
        unsafe { ffi::rados_buffer_free(out) };
        Ok(answer)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SAFETY: rule 1: nobody has it any more. It is right for a client that never connected.
        unsafe { ffi::rados_shutdown(self.raw) }
    }
}

/// A pool of a cluster.
pub(crate) struct Pool {
    io: rados_ioctx_t,
    context: *mut Context,
    cluster: Arc<Cluster>,
}

// SAFETY: as for `Cluster`; the context is only read, and its sink is Sync.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

struct Context {
    sink: Arc<dyn Sink>,
}

/// What an operation's completion carries.
struct Flight {
    sink: Arc<dyn Sink>,
    token: u64,
}

/// An operation that librados has taken; it may be cancelled as long as this lives.
pub(crate) struct Completion(ffi::rados_completion_t);

// SAFETY: a completion is a counted reference that librados locks itself.
unsafe impl Send for Completion {}

impl Drop for Completion {
    fn drop(&mut self) {
        // SAFETY: this is our reference; librados has its own until the call back.
        unsafe { ffi::rados_aio_release(self.0) }
    }
}

/// Rule 2: the one call for this operation.
extern "C" fn completed(completion: ffi::rados_completion_t, arg: *mut c_void) {
    // SAFETY: `arg` is the box that `Pool::start` made for this operation.
    let flight = unsafe { Box::from_raw(arg.cast::<Flight>()) };
    // SAFETY: librados holds the completion while it calls back.
    let result = unsafe { ffi::rados_aio_get_return_value(completion) };
    flight.sink.completed(flight.token, result);
}

extern "C" fn notified(
    arg: *mut c_void,
    notify: u64,
    handle: u64,
    _notifier: u64,
    _data: *mut c_void,
    _len: usize,
) {
    // SAFETY: rule 4.
    let context = unsafe { &*arg.cast::<Context>() };
    context.sink.notified(handle, notify);
}

/// The watch is lost; whoever waits also looks by itself from time to time.
extern "C" fn watch_failed(_arg: *mut c_void, _handle: u64, _error: c_int) {}

impl Pool {
    /// The number of the pool, which a pool of the same name made later does not have.
    pub(crate) fn id(&self) -> i64 {
        // SAFETY: rule 1.
        unsafe { ffi::rados_ioctx_get_id(self.io) }
    }

    fn start(
        &self,
        token: u64,
        call: impl FnOnce(ffi::rados_completion_t) -> c_int,
    ) -> Result<Completion, Errno> {
        // SAFETY: rule 4 keeps the context as long as the pool.
        let sink = unsafe { &*self.context }.sink.clone();
        let arg = Box::into_raw(Box::new(Flight { sink, token })).cast();
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` takes the handle; the call back gets `arg` (rule 2).
        let made = unsafe { rados_aio_create_completion2(arg, Some(completed), &mut raw) };
        if let Err(errno) = check(made) {
            // SAFETY: no completion has it, so it is still ours.
            drop(unsafe { Box::from_raw(arg.cast::<Flight>()) });
            return Err(errno);
        }
        let completion = Completion(raw);
        match check(call(raw)) {
            Ok(_) => Ok(completion),
            Err(errno) => {
                // SAFETY: rule 2: refused, so nobody calls back.
                drop(unsafe { Box::from_raw(arg.cast::<Flight>()) });
                Err(errno)
            }
        }
    }

    /// Reads `len` bytes, which must not be 0 (that would be the whole object). The result is how
    /// many there were.
    ///
    /// # Safety
    /// `buf..buf + len` must be writable, and nobody else's, until the call back.
    pub(crate) unsafe fn read(
        &self,
        name: &CStr,
        (buf, len): (*mut u8, usize),
        offset: u64,
        token: u64,
    ) -> Result<Completion, Errno> {
        debug_assert!(len > 0);
        self.start(token, |completion| {
            let buf = buf.cast();
            // SAFETY: rules 1 and 3; the caller promises the memory.
            unsafe { ffi::rados_aio_read(self.io, name.as_ptr(), completion, buf, len, offset) }
        })
    }

    /// Writes `len` bytes; makes the object when it is missing.
    ///
    /// # Safety
    /// `buf..buf + len` must be readable during the call.
    pub(crate) unsafe fn write(
        &self,
        name: &CStr,
        (buf, len): (*const u8, usize),
        offset: u64,
        token: u64,
    ) -> Result<Completion, Errno> {
        self.start(token, |completion| {
            let buf = buf.cast();
            // SAFETY: rules 1 and 3; the caller promises the memory.
            unsafe { ffi::rados_aio_write(self.io, name.as_ptr(), completion, buf, len, offset) }
        })
    }

    /// Asks for the size, which is in `size` at the call back when the result is 0.
    ///
    /// # Safety
    /// `size` must be writable, and nobody else's, until the call back.
    pub(crate) unsafe fn stat(
        &self,
        name: &CStr,
        size: *mut u64,
        token: u64,
    ) -> Result<Completion, Errno> {
        self.start(token, |completion| {
            // SAFETY: rule 1; the caller promises the memory; no time is asked for.
            unsafe {
                ffi::rados_aio_stat(self.io, name.as_ptr(), completion, size, ptr::null_mut())
            }
        })
    }

    /// Removes an object.
    pub(crate) fn remove(&self, name: &CStr, token: u64) -> Result<Completion, Errno> {
        self.start(token, |completion| {
            // SAFETY: rule 1.
            unsafe { ffi::rados_aio_remove(self.io, name.as_ptr(), completion) }
        })
    }

    /// Does all of `steps` or none.
    pub(crate) fn apply(
        &self,
        name: &CStr,
        steps: &Steps,
        token: u64,
    ) -> Result<Completion, Errno> {
        self.start(token, |completion| {
            // SAFETY: rule 1; the operation lives during the call, which takes what is in it.
            unsafe {
                ffi::rados_aio_write_op_operate(
                    steps.0,
                    self.io,
                    completion,
                    name.as_ptr(),
                    ptr::null_mut(),
                    0,
                )
            }
        })
    }

    /// Calls a method of an object class that changes nothing. The result is the length of what is
    /// in `out`.
    ///
    /// # Safety
    /// `out..out + len` must be writable, and nobody else's, until the call back.
    pub(crate) unsafe fn ask_class(
        &self,
        name: &CStr,
        (class, method): (&CStr, &CStr),
        input: &[u8],
        (out, len): (*mut u8, usize),
        token: u64,
    ) -> Result<Completion, Errno> {
        self.start(token, |completion| {
            // SAFETY: rules 1 and 3; the caller promises the memory.
            unsafe {
                rados_aio_exec(
                    self.io,
                    name.as_ptr(),
                    completion,
                    class.as_ptr(),
                    method.as_ptr(),
                    input.as_ptr().cast(),
                    input.len(),
                    out.cast(),
                    len,
                )
            }
        })
    }

    /// Begins to watch an object; the handle.
    pub(crate) fn watch(&self, name: &CStr, token: u64) -> Result<(Completion, u64), Errno> {
        const TIMEOUT_S: u32 = 30;
        let mut handle = 0;
        let completion = self.start(token, |completion| {
            // SAFETY: rules 1 and 4; the handle is written during the call.
            unsafe {
                rados_aio_watch2(
                    self.io,
                    name.as_ptr(),
                    completion,
                    &mut handle,
                    Some(notified),
                    Some(watch_failed),
                    TIMEOUT_S,
                    self.context.cast(),
                )
            }
        })?;
        Ok((completion, handle))
    }

    /// Watches no more.
    pub(crate) fn unwatch(&self, handle: u64, token: u64) -> Result<Completion, Errno> {
        self.start(token, |completion| {
            // SAFETY: rule 1.
            unsafe { rados_aio_unwatch(self.io, handle, completion) }
        })
    }

    /// Tells those who watch an object; ends when all have heard it, or after `timeout_ms`.
    pub(crate) fn notify(
        &self,
        name: &CStr,
        timeout_ms: u64,
        token: u64,
    ) -> Result<Completion, Errno> {
        self.start(token, |completion| {
            // SAFETY: rule 1; there is no message, and no reply is asked for.
            unsafe {
                rados_aio_notify(
                    self.io,
                    name.as_ptr(),
                    completion,
                    ptr::null(),
                    0,
                    timeout_ms,
                    ptr::null_mut(),
                    ptr::null_mut(),
                )
            }
        })
    }

    /// Says that a notification was heard.
    pub(crate) fn heard(&self, name: &CStr, notify: u64, handle: u64) {
        // SAFETY: rule 1; there is no message. A failure only lets the notifier wait longer.
        unsafe {
            ffi::rados_notify_ack(self.io, name.as_ptr(), notify, handle, ptr::null(), 0);
        }
    }

    /// Gives an operation up; its call back comes at once, but it may still land.
    pub(crate) fn cancel(&self, completion: &Completion) {
        // SAFETY: rule 1; the completion is a living reference. One that has ended is ignored.
        unsafe {
            ffi::rados_aio_cancel(self.io, completion.0);
        }
    }

    /// Names of objects in the order of their reversed hash, beginning at `from` of 2^32, at most
    /// `max` of them. Blocks for a round trip, or more.
    pub(crate) fn list(&self, from: u32, max: usize) -> Result<Vec<Vec<u8>>, Errno> {
        let (begin, end) = (Cursor::begin(self)?, Cursor::end(self)?);
        let (start, _) = begin.slice(&end, from as usize, 1 << 32)?;
        self.list_between(start, &end, max)
    }

    fn list_between<'a>(
        &'a self,
        mut at: Cursor<'a>,
        end: &Cursor<'_>,
        max: usize,
    ) -> Result<Vec<Vec<u8>>, Errno> {
        let mut items: Vec<ListItem> = (0..max).map(|_| ListItem::default()).collect();
        let mut next = Cursor::begin(self)?;
        let mut names = Vec::new();
        while names.len() < max && !at.is_end() && at.is_before(end) {
            // SAFETY: rule 1; the cursors are of this pool and live; `items` has `max`, of which
            // at most the room that is left is asked for.
            let count = check(unsafe {
                rados_object_list(
                    self.io,
                    at.raw,
                    end.raw,
                    max - names.len(),
                    ptr::null(),
                    0,
                    items.as_mut_ptr(),
                    &mut next.raw,
                )
            })?;
            for item in &items[..count as usize] {
                // SAFETY: librados filled `count` items, whose names are of that length.
                let name = unsafe { std::slice::from_raw_parts(item.oid.cast(), item.oid_length) };
                names.push(name.to_vec());
            }
            // SAFETY: exactly these were filled, and are freed once.
            unsafe { rados_object_list_free(count as usize, items.as_mut_ptr()) };
            std::mem::swap(&mut at, &mut next);
        }
        Ok(names)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: rules 1 and 4: after the flush no call back has the context any more.
        unsafe {
            ffi::rados_watch_flush(self.cluster.raw);
            ffi::rados_ioctx_destroy(self.io);
            drop(Box::from_raw(self.context));
        }
    }
}

/// Changes of one object that happen together.
pub(crate) struct Steps(ffi::rados_write_op_t);

impl Steps {
    pub(crate) fn new() -> Steps {
        // SAFETY: takes nothing, and gives a handle that `drop` releases.
        Steps(unsafe { ffi::rados_create_write_op() })
    }

    /// Makes the object; `exclusive`: fails with EEXIST when it is there.
    pub(crate) fn create(self, exclusive: bool) -> Steps {
        // SAFETY: the handle lives; no category is given.
        unsafe { ffi::rados_write_op_create(self.0, exclusive.into(), ptr::null()) };
        self
    }

    /// Fails with ENOENT when the object is missing.
    pub(crate) fn assert_exists(self) -> Steps {
        // SAFETY: the handle lives.
        unsafe { ffi::rados_write_op_assert_exists(self.0) };
        self
    }

    pub(crate) fn truncate(self, size: u64) -> Steps {
        // SAFETY: the handle lives.
        unsafe { ffi::rados_write_op_truncate(self.0, size) };
        self
    }

    /// Zeroes a range, which must not be empty: an OSD dies of that.
    pub(crate) fn zero(self, offset: u64, len: u64) -> Steps {
        assert!(len > 0, "an empty ZERO ends an OSD");
        // SAFETY: the handle lives.
        unsafe { ffi::rados_write_op_zero(self.0, offset, len) };
        self
    }

    pub(crate) fn write(self, bytes: &[u8], offset: u64) -> Steps {
        // SAFETY: a slice is readable.
        unsafe { self.write_from((bytes.as_ptr(), bytes.len()), offset) }
    }

    /// # Safety
    /// `buf..buf + len` must be readable during the call, which copies it.
    pub(crate) unsafe fn write_from(self, (buf, len): (*const u8, usize), offset: u64) -> Steps {
        // SAFETY: the handle lives; the caller promises the memory.
        unsafe { ffi::rados_write_op_write(self.0, buf.cast(), len, offset) };
        self
    }

    /// Gives the object an attribute.
    pub(crate) fn set(self, attribute: &CStr, value: &[u8]) -> Steps {
        let (value, len) = (value.as_ptr().cast(), value.len());
        // SAFETY: the handle lives; the name and a slice are copied.
        unsafe { ffi::rados_write_op_setxattr(self.0, attribute.as_ptr(), value, len) };
        self
    }

    /// Removes an attribute, if the object has it. The object must be there by then.
    pub(crate) fn unset(self, attribute: &CStr) -> Steps {
        // SAFETY: the handle lives; the name is copied.
        unsafe { ffi::rados_write_op_rmxattr(self.0, attribute.as_ptr()) };
        self
    }

    /// Fails, with ECANCELED where the object is there, unless an attribute is this.
    pub(crate) fn assert_equal(self, attribute: &CStr, value: &[u8]) -> Steps {
        /// LIBRADOS_CMPXATTR_OP_EQ.
        const EQUAL: u8 = 1;
        let (value, len) = (value.as_ptr().cast(), value.len());
        // SAFETY: the handle lives; the name and a slice are copied.
        unsafe { ffi::rados_write_op_cmpxattr(self.0, attribute.as_ptr(), EQUAL, value, len) };
        self
    }

    /// Calls a method of an object class.
    pub(crate) fn class(self, class: &CStr, method: &CStr, input: &[u8]) -> Steps {
        // SAFETY: the handle lives; names and input are copied; no result is asked for.
        unsafe {
            ffi::rados_write_op_exec(
                self.0,
                class.as_ptr(),
                method.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                ptr::null_mut(),
            );
        }
        self
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        // SAFETY: nobody else has the handle; what was submitted was taken out of it.
        unsafe { ffi::rados_release_write_op(self.0) }
    }
}

/// A place in the order of a pool's objects.
struct Cursor<'a> {
    pool: &'a Pool,
    raw: *mut c_void,
}

impl<'a> Cursor<'a> {
    fn begin(pool: &'a Pool) -> Result<Cursor<'a>, Errno> {
        // SAFETY: rule 1.
        Cursor::own(pool, unsafe { rados_object_list_begin(pool.io) })
    }

    fn end(pool: &'a Pool) -> Result<Cursor<'a>, Errno> {
        // SAFETY: rule 1.
        Cursor::own(pool, unsafe { rados_object_list_end(pool.io) })
    }

    /// Null stands for a pool that is gone.
    fn own(pool: &'a Pool, raw: *mut c_void) -> Result<Cursor<'a>, Errno> {
        match raw.is_null() {
            true => Err(Errno::NOENT),
            false => Ok(Cursor { pool, raw }),
        }
    }

    /// Where the part number `n` of `m` equal parts begins and ends.
    fn slice(
        &self,
        end: &Cursor<'a>,
        n: usize,
        m: usize,
    ) -> Result<(Cursor<'a>, Cursor<'a>), Errno> {
        let (start, finish) = (Cursor::begin(self.pool)?, Cursor::begin(self.pool)?);
        let (mut start_raw, mut finish_raw) = (start.raw, finish.raw);
        // SAFETY: rule 1; all four cursors are of this pool and live, and change in place.
        unsafe {
            rados_object_list_slice(
                self.pool.io,
                self.raw,
                end.raw,
                n,
                m,
                &mut start_raw,
                &mut finish_raw,
            );
        }
        Ok((start, finish))
    }

    fn is_before(&self, other: &Cursor<'_>) -> bool {
        // SAFETY: rule 1; both cursors are of this pool and live.
        unsafe { rados_object_list_cursor_cmp(self.pool.io, self.raw, other.raw) < 0 }
    }

    fn is_end(&self) -> bool {
        // SAFETY: rule 1; the cursor lives.
        unsafe { rados_object_list_is_end(self.pool.io, self.raw) != 0 }
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        // SAFETY: rule 1; the cursor is freed once.
        unsafe { rados_object_list_cursor_free(self.pool.io, self.raw) }
    }
}

fn check(result: c_int) -> Result<c_int, Errno> {
    match result < 0 {
        true => Err(Errno::from_result(result)),
        false => Ok(result),
    }
}

fn c_string(text: &str) -> Result<CString, Errno> {
    CString::new(text).map_err(|_| Errno::INVAL)
}

/// `rados_object_list_item` of `librados.h`.
#[repr(C)]
struct ListItem {
    oid_length: usize,
    oid: *mut c_char,
    nspace_length: usize,
    nspace: *mut c_char,
    locator_length: usize,
    locator: *mut c_char,
}

impl Default for ListItem {
    fn default() -> ListItem {
        ListItem {
            oid_length: 0,
            oid: ptr::null_mut(),
            nspace_length: 0,
            nspace: ptr::null_mut(),
            locator_length: 0,
            locator: ptr::null_mut(),
        }
    }
}

// What the crate `ceph` does not declare, from `librados.h` of Ceph 16.
#[link(name = "rados")]
unsafe extern "C" {
    fn rados_aio_create_completion2(
        arg: *mut c_void,
        complete: ffi::rados_callback_t,
        completion: *mut ffi::rados_completion_t,
    ) -> c_int;
    fn rados_aio_exec(
        io: rados_ioctx_t,
        name: *const c_char,
        completion: ffi::rados_completion_t,
        class: *const c_char,
        method: *const c_char,
        input: *const c_char,
        input_len: usize,
        out: *mut c_char,
        out_len: usize,
    ) -> c_int;
    fn rados_aio_watch2(
        io: rados_ioctx_t,
        name: *const c_char,
        completion: ffi::rados_completion_t,
        handle: *mut u64,
        notified: ffi::rados_watchcb2_t,
        failed: ffi::rados_watcherrcb_t,
        timeout_s: u32,
        arg: *mut c_void,
    ) -> c_int;
    fn rados_aio_unwatch(
        io: rados_ioctx_t,
        handle: u64,
        completion: ffi::rados_completion_t,
    ) -> c_int;
    fn rados_aio_notify(
        io: rados_ioctx_t,
        name: *const c_char,
        completion: ffi::rados_completion_t,
        message: *const c_char,
        message_len: c_int,
        timeout_ms: u64,
        reply: *mut *mut c_char,
        reply_len: *mut usize,
    ) -> c_int;
    fn rados_blocklist_add(cluster: rados_t, address: *mut c_char, seconds: u32) -> c_int;
    fn rados_getaddrs(cluster: rados_t, addresses: *mut *mut c_char) -> c_int;
    fn rados_set_pool_full_try(io: rados_ioctx_t);
    fn rados_object_list_begin(io: rados_ioctx_t) -> *mut c_void;
    fn rados_object_list_end(io: rados_ioctx_t) -> *mut c_void;
    fn rados_object_list_is_end(io: rados_ioctx_t, cursor: *mut c_void) -> c_int;
    fn rados_object_list_cursor_cmp(
        io: rados_ioctx_t,
        one: *mut c_void,
        other: *mut c_void,
    ) -> c_int;
    fn rados_object_list_cursor_free(io: rados_ioctx_t, cursor: *mut c_void);
    fn rados_object_list(
        io: rados_ioctx_t,
        start: *mut c_void,
        finish: *mut c_void,
        max: usize,
        filter: *const c_char,
        filter_len: usize,
        items: *mut ListItem,
        next: *mut *mut c_void,
    ) -> c_int;
    fn rados_object_list_free(count: usize, items: *mut ListItem);
    fn rados_object_list_slice(
        io: rados_ioctx_t,
        start: *mut c_void,
        finish: *mut c_void,
        n: usize,
        m: usize,
        split_start: *mut *mut c_void,
        split_finish: *mut *mut c_void,
    );
}

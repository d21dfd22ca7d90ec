//! A place at a node: requests and their replies, blocking or as futures.

use crate::core::{Core, Done};
use crate::wait::Patience;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use xseg::join::{Connection, JoinError, Kind};
use xseg::protocol::PortNo;
use xseg::{Extent, Request, Seat};

/// Where the peers of a node serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// The composer of volumes.
    pub vlmcd: PortNo,
    /// The keeper of maps.
    pub mapperd: PortNo,
    /// The blocker of maps and locks.
    pub blockerm: PortNo,
    /// The blocker of data.
    pub blockerb: PortNo,
}

#[derive(Default)]
struct Pending {
    done: Option<Done>,
    waker: Option<Waker>,
}

struct Inner {
    core: Core,
    ports: Ports,
    node: Option<Connection>,
    pending: HashMap<u64, Pending>,
    next_token: u64,
    /// Who waits for a free slot or buffer.
    starved: Vec<Waker>,
    patience: Patience,
    done: Vec<Done>,
    gone: bool,
}

/// A place at a node, for one thread; clones are the same place.
#[derive(Clone)]
pub struct Client(Rc<RefCell<Inner>>);

/// The reply of a request: how much was serviced, and the bytes it came with.
#[derive(Debug, Default)]
pub struct Reply {
    /// Operation specific count.
    pub serviced: u64,
    /// The reply's data.
    pub bytes: Vec<u8>,
}

impl Client {
    /// A client on a seat of this very process (the embedded node).
    pub fn new(seat: Seat, ports: Ports) -> Client {
        Client::with(seat, ports, None)
    }

    /// Joins the node whose segment is handed out at `socket`, under `name` (for display).
    pub fn connect(socket: &Path, ports: Ports, name: &str) -> Result<Client, JoinError> {
        let joined = xseg::join::connect(socket, Kind::Client { name })?;
        Ok(Client::with(joined.seat, ports, Some(joined.connection)))
    }

    fn with(mut seat: Seat, ports: Ports, node: Option<Connection>) -> Client {
        // Without a free dynamic port replies still come: they go to the seat.
        seat.bind_dynamic();
        Client(Rc::new(RefCell::new(Inner {
            core: Core::new(seat),
            ports,
            node,
            pending: HashMap::new(),
            next_token: 0,
            starved: Vec::new(),
            patience: Patience::default(),
            done: Vec::new(),
            gone: false,
        })))
    }

    /// Where the peers serve.
    pub fn ports(&self) -> Ports {
        self.0.borrow().ports
    }

    /// A descriptor that becomes readable when something was answered while nobody waited: for
    /// event loops of other libraries, which then call [`Client::turn`].
    pub fn descriptor(&self) -> std::io::Result<OwnedFd> {
        let inner = self.0.borrow();
        let bell = inner.core.bell().ok_or(std::io::ErrorKind::Unsupported)?;
        bell.as_fd().try_clone_to_owned()
    }

    /// Takes what was answered and wakes its futures; then arms the descriptor. True: something
    /// was answered.
    pub fn turn(&self) -> bool {
        let mut any = false;
        self.0.borrow().core.wake();
        loop {
            any |= self.0.borrow_mut().collect();
            if self.0.borrow().core.doze() {
                return any;
            }
        }
    }

    /// Runs a future of this client to its end, waiting for the node in between.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        struct Nothing;
        impl Wake for Nothing {
            fn wake(self: Arc<Self>) {}
        }
        let waker = Arc::new(Nothing).into();
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            self.0.borrow_mut().wait();
        }
    }

    /// Sends one request and awaits its end. The data comes back in the [`Done`]; whoever takes
    /// that frees it with [`Client::free`].
    pub(crate) async fn request(
        &self,
        port: PortNo,
        request: Request,
        data: Option<Extent>,
    ) -> Done {
        let mut data = data;
        let token = poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            match inner.submit(port, &request, data.take()) {
                Ok(token) => Poll::Ready(Ok(token)),
                Err((libc::EAGAIN, back)) => {
                    data = back;
                    inner.starved.push(cx.waker().clone());
                    Poll::Pending
                }
                Err((errno, back)) => Poll::Ready(Err((errno, back))),
            }
        })
        .await;
        match token {
            Ok(token) => poll_fn(|cx| self.0.borrow_mut().poll_done(token, cx)).await,
            Err((errno, data)) => Done {
                token: 0,
                answer: xseg::Answer::failed(errno),
                data,
                larger: None,
            },
        }
    }

    /// A data buffer of `len` bytes, when one is free.
    pub(crate) async fn buffer(&self, len: u64) -> Result<Extent, i32> {
        poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            match inner.core.take_buffer(len) {
                Some(buffer) => Poll::Ready(Ok(buffer)),
                None if inner.core.under_way() == 0 => Poll::Ready(Err(libc::ENOBUFS)),
                None => {
                    inner.starved.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Gives the buffers of a finished request back.
    pub(crate) fn free(&self, done: &Done) {
        let mut inner = self.0.borrow_mut();
        for buffer in done.data.iter().chain(&done.larger) {
            inner.core.give_buffer_back(buffer);
        }
    }

    /// Sends one request with `bytes`, and returns what the reply says and brings.
    pub async fn call(
        &self,
        port: PortNo,
        request: Request,
        bytes: &[u8],
        room: usize,
    ) -> Result<Reply, i32> {
        let len = bytes.len().max(room) as u64;
        let data = match len {
            0 => None,
            _ => Some(self.buffer(len).await?),
        };
        if let Some(data) = &data {
            data.fill(bytes);
        }
        let done = self.request(port, request, data).await;
        let reply = done.answer.result().map(|serviced| Reply {
            serviced,
            bytes: done.reply().map(Extent::to_vec).unwrap_or_default(),
        });
        self.free(&done);
        reply
    }
}

impl Inner {
    fn submit(
        &mut self,
        port: PortNo,
        request: &Request,
        data: Option<Extent>,
    ) -> Result<u64, (i32, Option<Extent>)> {
        if self.gone {
            return Err((libc::ENOTCONN, data));
        }
        let token = self.next_token;
        self.core.submit(port, request, data, token)?;
        self.next_token += 1;
        self.pending.insert(token, Pending::default());
        Ok(token)
    }

    fn poll_done(&mut self, token: u64, cx: &mut Context<'_>) -> Poll<Done> {
        let Some(pending) = self.pending.get_mut(&token) else {
            return Poll::Ready(lost(token));
        };
        if let Some(done) = pending.done.take() {
            self.pending.remove(&token);
            return Poll::Ready(done);
        }
        if self.gone {
            self.pending.remove(&token);
            return Poll::Ready(lost(token));
        }
        pending.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn collect(&mut self) -> bool {
        let mut done = std::mem::take(&mut self.done);
        self.core.poll(&mut done);
        let any = self.deliver(&mut done);
        self.done = done;
        any
    }

    fn wait(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        let node = self.node.as_ref().map(Connection::descriptor);
        if !self.patience.wait(&mut self.core, node, &mut done) {
            self.gone = true;
            self.pending
                .values_mut()
                .filter_map(|p| p.waker.take())
                .for_each(Waker::wake);
        }
        self.deliver(&mut done);
        self.done = done;
    }

    fn deliver(&mut self, done: &mut Vec<Done>) -> bool {
        let any = !done.is_empty();
        for one in done.drain(..) {
            if let Some(pending) = self.pending.get_mut(&one.token) {
                pending.done = Some(one);
                pending.waker.take().into_iter().for_each(Waker::wake);
            }
        }
        if any {
            self.starved.drain(..).for_each(Waker::wake);
        }
        any
    }
}

/// The end of a request whose node went away.
fn lost(token: u64) -> Done {
    Done {
        token,
        answer: xseg::Answer::failed(libc::ENOTCONN),
        data: None,
        larger: None,
    }
}

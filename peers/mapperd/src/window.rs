//! Many steps of one operation at once, but not too many.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

/// Runs what `make` gives for each item, at most `width` at a time; results in the items' order.
pub(crate) async fn each<I, F: Future>(
    width: usize,
    items: impl IntoIterator<Item = I>,
    mut make: impl FnMut(I) -> F,
) -> Vec<F::Output> {
    let mut items = items.into_iter();
    let mut results: Vec<Option<F::Output>> = Vec::new();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    poll_fn(|context| {
        loop {
            let before = running.len();
            running.retain_mut(|(at, future)| match future.as_mut().poll(context) {
                Poll::Ready(result) => {
                    results[*at] = Some(result);
                    false
                }
                Poll::Pending => true,
            });
            let ended = running.len() < before;
            let mut started = false;
            while running.len() < width {
                let Some(item) = items.next() else { break };
                running.push((results.len(), Box::pin(make(item))));
                results.push(None);
                started = true;
            }
            if running.is_empty() {
                return Poll::Ready(());
            }
            // What was just started has to be polled once, or nobody would wake it.
            if !started && !ended {
                return Poll::Pending;
            }
        }
    })
    .await;
    results
        .into_iter()
        .map(|result| result.expect("all have ended"))
        .collect()
}

/// Waits for whichever ends first.
pub(crate) async fn first_of(one: impl Future<Output = ()>, two: impl Future<Output = ()>) {
    let (mut one, mut two) = (pin!(one), pin!(two));
    poll_fn(|context| {
        let ended = one.as_mut().poll(context).is_ready() || two.as_mut().poll(context).is_ready();
        if ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::{Executor, sync::Semaphore};
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    #[test]
    fn at_most_width_run_and_results_keep_their_order() {
        let executor = Executor::new();
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let out = Rc::new(RefCell::new(Vec::new()));
        let (gate, sink, peak) = (Semaphore::new(1), out.clone(), most.clone());
        executor.spawn(async move {
            let results = each(3, 0..10, |i| {
                let (gate, now, most) = (gate.clone(), now.clone(), most.clone());
                async move {
                    now.set(now.get() + 1);
                    most.set(most.get().max(now.get()));
                    let _permit = gate.acquire().await;
                    now.set(now.get() - 1);
                    i * i
                }
            })
            .await;
            sink.replace(results);
        });
        while executor.run_ready() {}
        assert_eq!(*out.borrow(), (0..10).map(|i| i * i).collect::<Vec<_>>());
        assert!(peak.get() <= 3);
    }
}

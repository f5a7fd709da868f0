//! What the shards hand to a gateway's task, in order.
//!
//! A queue under a lock that is held for a push or a pop alone. Whoever hands in many things at once
//! holds the task back meanwhile, so that they come to the stream in one message.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::gateway::relay::{Passing, Relay};

/// Room that an empty queue keeps.
const ROOM: usize = 1_024;

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// The task is to look.
    come: Notify,
    /// How many hand things in at the moment, and want them to be taken together.
    holding: AtomicUsize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Passing>,
    /// Nobody takes anything any more, or nobody hands anything in.
    closed: bool,
}

/// Where the shards put things.
pub(super) struct Inbox(Arc<Queue>);

/// Where the task takes them.
pub(super) struct Taken(Arc<Queue>);

/// An empty queue.
pub(super) fn inbox() -> (Inbox, Taken) {
    let queue = Arc::new(Queue::default());
    (Inbox(Arc::clone(&queue)), Taken(queue))
}

impl Queue {
    fn close(&self) {
        self.state.lock().closed = true;
        self.come.notify_one();
    }
}

impl Relay for Inbox {
    fn pass(&self, passing: Passing) -> Option<Passing> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Some(passing);
        }
        state.waiting.push_back(passing);
        drop(state);
        // Whoever lets go later sees what was pushed.
        if self.0.holding.load(Ordering::SeqCst) == 0 {
            self.0.come.notify_one();
        }
        None
    }

    fn hold(&self) {
        self.0.holding.fetch_add(1, Ordering::SeqCst);
    }

    fn let_go(&self) {
        self.0.holding.fetch_sub(1, Ordering::SeqCst);
        // What others hand in at the moment comes along: nobody waits for two of them.
        if !self.0.state.lock().waiting.is_empty() {
            self.0.come.notify_one();
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Taken {
    /// The next thing; `None` when there will be none any more.
    pub(super) async fn recv(&mut self) -> Option<Passing> {
        loop {
            {
                let mut state = self.0.state.lock();
                if let Some(passing) = state.waiting.pop_front() {
                    return Some(passing);
                }
                if state.closed {
                    return None;
                }
                state.waiting.shrink_to(ROOM);
            }
            self.0.come.notified().await;
        }
    }

    /// The next thing, if it is there.
    pub(super) fn try_recv(&mut self) -> Option<Passing> {
        self.0.state.lock().waiting.pop_front()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.state.lock().waiting.len()
    }

    /// Takes in nothing any more; what is there can still be taken.
    pub(super) fn close(&mut self) {
        self.0.close();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn thing() -> Passing {
        Passing::Then(Box::new(|| {}))
    }

    /// Whether the next thing comes at once.
    fn comes(taken: &mut Taken) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        matches!(pin!(taken.recv()).poll(&mut context), Poll::Ready(Some(_)))
    }

    #[tokio::test]
    async fn what_is_handed_in_is_taken() {
        let (inbox, mut taken) = inbox();
        assert!(!comes(&mut taken));
        let task = tokio::spawn(async move {
            assert!(taken.recv().await.is_some());
            taken
        });
        tokio::task::yield_now().await;
        assert!(inbox.pass(thing()).is_none());
        let mut taken = task.await.unwrap();
        drop(inbox);
        assert!(taken.recv().await.is_none());
    }

    #[tokio::test]
    async fn the_task_is_held_back_while_things_are_handed_in() {
        let (inbox, mut taken) = inbox();
        let task = tokio::spawn(async move {
            assert!(taken.recv().await.is_some());
            taken.len()
        });
        tokio::task::yield_now().await;
        inbox.hold();
        for _ in 0..16 {
            assert!(inbox.pass(thing()).is_none());
            tokio::task::yield_now().await;
        }
        assert!(!task.is_finished());
        inbox.let_go();
        assert_eq!(task.await.unwrap(), 15);
    }

    #[tokio::test]
    async fn one_that_lets_go_does_not_wait_for_another() {
        let (inbox, mut taken) = inbox();
        let task = tokio::spawn(async move { taken.recv().await.is_some() });
        tokio::task::yield_now().await;
        inbox.hold();
        inbox.hold();
        inbox.pass(thing());
        inbox.let_go();
        assert!(task.await.unwrap());
    }

    #[test]
    fn what_comes_too_late_is_given_back() {
        let (inbox, mut taken) = inbox();
        inbox.pass(thing());
        taken.close();
        assert!(inbox.pass(thing()).is_some());
        assert!(taken.try_recv().is_some());
        assert!(taken.try_recv().is_none());
        drop(taken);
        assert!(inbox.pass(thing()).is_some());
    }
}

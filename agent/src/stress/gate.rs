//! Where the workers wait for each other before and after a stage.
//!
//! Like a barrier, but it can be broken: when one worker cannot go on, none may wait for it. Must
//! never hold its lock while anyone does I/O.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A barrier for `parties` threads.
#[derive(Debug)]
pub(super) struct Gate {
    parties: usize,
    state: Mutex<State>,
    turned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    turn: u64,
    broken: bool,
}

impl Gate {
    pub(super) fn new(parties: usize) -> Gate {
        Gate { parties, state: Mutex::default(), turned: Condvar::new() }
    }

    /// Returns when all parties have come, or at once when the gate is broken.
    pub(super) fn wait(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        if state.waiting == self.parties {
            state.waiting = 0;
            state.turn += 1;
            self.turned.notify_all();
            return;
        }
        let turn = state.turn;
        while state.turn == turn && !state.broken {
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets everyone through from now on.
    pub(super) fn break_open(&self) {
        self.lock().broken = true;
        self.turned.notify_all();
    }

    /// A worker that panics must not make the others wait, so poison means nothing here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_gate_holds_nobody() {
        let gate = Gate::new(3);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.wait());
            gate.break_open();
            waiting.join().unwrap();
        });
        gate.wait();
    }

    #[test]
    fn all_parties_pass_turn_after_turn() {
        let gate = Gate::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|_| gate.wait()));
            (0..100).for_each(|_| gate.wait());
        });
    }
}

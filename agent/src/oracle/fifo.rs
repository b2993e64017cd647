//! A short list of small numbers, in order, none of them twice: what a core's lists and queues hold.
//!
//! Unused places are zero, so that equal lists are equal states.

/// At most `N` numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fifo<const N: usize> {
    len: u8,
    items: [u8; N],
}

impl<const N: usize> Default for Fifo<N> {
    fn default() -> Self {
        Fifo { len: 0, items: [0; N] }
    }
}

impl<const N: usize> Fifo<N> {
    /// Adds at the tail, unless it is in already.
    pub(super) fn push(&mut self, item: u8) {
        if !self.contains(item) {
            self.items[usize::from(self.len)] = item;
            self.len += 1;
        }
    }

    /// Takes the head.
    pub(super) fn pop(&mut self) -> Option<u8> {
        let head = self.first()?;
        self.remove(head);
        Some(head)
    }

    /// Takes the tail.
    pub(super) fn pop_last(&mut self) -> Option<u8> {
        let tail = self.iter().last()?;
        self.remove(tail);
        Some(tail)
    }

    pub(super) fn remove(&mut self, item: u8) {
        let before = std::mem::take(self);
        before.iter().filter(|it| *it != item).for_each(|it| self.push(it));
    }

    pub(super) fn first(&self) -> Option<u8> {
        self.iter().next()
    }

    pub(super) fn contains(&self, item: u8) -> bool {
        self.iter().any(|it| it == item)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u8> {
        self.items.into_iter().take(usize::from(self.len))
    }
}

#[cfg(test)]
mod tests {
    use super::Fifo;

    #[test]
    fn a_list_keeps_its_order_and_equal_lists_are_equal() {
        let mut list = Fifo::<3>::default();
        [2, 0, 2, 1].into_iter().for_each(|item| list.push(item));
        assert_eq!(list.iter().collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!((list.pop(), list.pop_last()), (Some(2), Some(1)));
        list.remove(1);
        let mut other = Fifo::default();
        other.push(0);
        assert_eq!(list, other);
        assert_eq!((list.pop(), list.pop(), list.pop_last()), (Some(0), None, None));
        assert!(list.is_empty());
    }
}

//! Byte buffers and their per-thread free list.
//!
//! A connection that waits holds no buffer: it takes one when bytes are there
//! and dropping it gives it back. What the free list keeps is what was needed a
//! moment ago: a storm's memory goes back to the allocator.

use std::cell::RefCell;
use std::fmt;

use crate::http1::Field;
use crate::telemetry::digits::decimal;

/// Heads and small bodies; also the most that is read ahead of a client.
pub(super) const SMALL: usize = 16 * 1024;
/// Bodies that keep coming.
pub(super) const LARGE: usize = 128 * 1024;

/// Most that is kept per thread after a storm, until the next [`trim`].
const MOST_SMALL: usize = 4096;
const MOST_LARGE: usize = 256;
const MOST_FIELDS: usize = 4096;
/// What is kept whether it is needed or not: 2 MiB of each kind.
const KEEP_SMALL: usize = 128;
const KEEP_LARGE: usize = 16;
const KEEP_FIELDS: usize = 128;
/// A field list that grew past this is not kept (200 fields).
const KEEP_FIELDS_CAPACITY: usize = 200;

/// Things of one kind that can be used again.
struct Shelf<T> {
    things: Vec<T>,
    /// The fewest that lay here since it was trimmed: nobody needed these.
    idle: usize,
}

impl<T> Shelf<T> {
    const fn new() -> Shelf<T> {
        Shelf { things: Vec::new(), idle: 0 }
    }

    fn take(&mut self) -> Option<T> {
        let thing = self.things.pop();
        self.idle = self.idle.min(self.things.len());
        thing
    }

    fn give(&mut self, thing: T, most: usize) {
        if self.things.len() < most {
            self.things.push(thing);
        }
    }

    /// Lets go of what nobody needed since the last time, but for `keep`.
    fn trim(&mut self, keep: usize) {
        let needed = self.things.len() - self.idle.min(self.things.len());
        self.things.truncate(needed.max(keep));
        self.things.shrink_to(needed.max(keep));
        self.idle = self.things.len();
    }
}

struct FreeList {
    small: Shelf<Box<[u8]>>,
    large: Shelf<Box<[u8]>>,
    fields: Shelf<Vec<Field>>,
}

thread_local! {
    static FREE: RefCell<FreeList> = const {
        RefCell::new(FreeList { small: Shelf::new(), large: Shelf::new(), fields: Shelf::new() })
    };
}

/// Gives the allocator back what this thread did not need since the last time.
pub(super) fn trim() {
    FREE.with_borrow_mut(|free| {
        free.small.trim(KEEP_SMALL);
        free.large.trim(KEEP_LARGE);
        free.fields.trim(KEEP_FIELDS);
    });
}

/// Bytes received or to be sent: `start..end` of a fixed block.
pub(super) struct Buffer {
    block: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// 16 KiB, from the free list.
    pub(super) fn small() -> Buffer {
        let block = FREE.with_borrow_mut(|free| free.small.take());
        Buffer::over(block.unwrap_or_else(|| zeroed(SMALL)))
    }

    /// 128 KiB, from the free list.
    pub(super) fn large() -> Buffer {
        let block = FREE.with_borrow_mut(|free| free.large.take());
        Buffer::over(block.unwrap_or_else(|| zeroed(LARGE)))
    }

    /// Without any room; the first push gives it some.
    pub(super) fn none() -> Buffer {
        Buffer::over(Box::default())
    }

    fn over(block: Box<[u8]>) -> Buffer {
        Buffer { block, start: 0, end: 0 }
    }

    fn sized(capacity: usize) -> Buffer {
        if capacity <= SMALL {
            Buffer::small()
        } else if capacity <= LARGE {
            Buffer::large()
        } else {
            Buffer::over(zeroed(capacity))
        }
    }

    /// What is in it, in a block of just that size: for little that is kept long.
    pub(super) fn fitted(&self) -> Buffer {
        let mut fitted = Buffer::over(self.filled().into());
        fitted.end = fitted.block.len();
        fitted
    }

    /// What is in it.
    #[inline]
    pub(super) fn filled(&self) -> &[u8] {
        self.block.get(self.start..self.end).unwrap_or_default()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room behind the filled bytes, after moving them to the front when they
    /// left no room behind them.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.end == self.block.len() && self.start > 0 {
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.block.get_mut(self.end..).unwrap_or_default()
    }

    /// It has a block, which can be given back.
    pub(super) fn has_room(&self) -> bool {
        !self.block.is_empty()
    }

    /// Room that [`Buffer::push`] can use without growing.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.block.len() - self.end
    }

    /// `n` bytes of [`Buffer::spare`] were written.
    #[inline]
    pub(super) fn advance(&mut self, n: usize) {
        debug_assert!(self.end + n <= self.block.len());
        self.end = (self.end + n).min(self.block.len());
    }

    /// The first `n` bytes are done with.
    #[inline]
    pub(super) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len());
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Everything behind the first `n` bytes is dropped.
    pub(super) fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start + n);
    }

    /// Appends, growing when there is no room.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.block.len() - self.end < bytes.len() {
            self.grow(bytes.len());
        }
        if let Some(room) = self.block.get_mut(self.end..self.end + bytes.len()) {
            room.copy_from_slice(bytes);
            self.end += bytes.len();
        }
    }

    /// A decimal number.
    pub(super) fn push_number(&mut self, number: u64) {
        decimal(number, &mut |digits, count| {
            let end = self.len() + count;
            self.push(&digits);
            self.truncate(end);
        });
    }

    /// Makes room for `extra` more bytes behind the filled ones.
    #[cold]
    fn grow(&mut self, extra: usize) {
        let wanted = self.len() + extra;
        if wanted <= self.block.len() {
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return;
        }
        let mut bigger = Buffer::sized(wanted.next_power_of_two());
        bigger.push(self.filled());
        *self = bigger;
    }

    /// Doubles the block, for a head that did not fit.
    pub(super) fn enlarge(&mut self) {
        let mut bigger = Buffer::sized(self.block.len() * 2);
        bigger.push(self.filled());
        *self = bigger;
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let block = std::mem::take(&mut self.block);
        // While the thread ends there is no free list any more: the block is freed.
        let _ = FREE.try_with(|free| {
            let Ok(mut free) = free.try_borrow_mut() else { return };
            match block.len() {
                SMALL => free.small.give(block, MOST_SMALL),
                LARGE => free.large.give(block, MOST_LARGE),
                _ => {}
            }
        });
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {})", self.len(), self.block.len())
    }
}

fn zeroed(size: usize) -> Box<[u8]> {
    vec![0; size].into_boxed_slice()
}

/// A list of header fields whose allocation is used again.
#[derive(Debug)]
pub(super) struct FieldList(Vec<Field>);

impl FieldList {
    /// Empty, from the free list.
    pub(super) fn take() -> FieldList {
        FieldList(FREE.with_borrow_mut(|free| free.fields.take()).unwrap_or_default())
    }

    /// Empty, with no room.
    pub(super) fn none() -> FieldList {
        FieldList(Vec::new())
    }

    pub(super) fn as_mut(&mut self) -> &mut Vec<Field> {
        &mut self.0
    }
}

impl std::ops::Deref for FieldList {
    type Target = [Field];

    fn deref(&self) -> &[Field] {
        &self.0
    }
}

impl Drop for FieldList {
    fn drop(&mut self) {
        let mut list = std::mem::take(&mut self.0);
        if list.capacity() == 0 || list.capacity() > KEEP_FIELDS_CAPACITY {
            return;
        }
        list.clear();
        let _ = FREE.try_with(|free| {
            if let Ok(mut free) = free.try_borrow_mut() {
                free.fields.give(list, MOST_FIELDS);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_keeps_what_was_needed() {
        let mut shelf = Shelf::new();
        (0..10).for_each(|thing| shelf.give(thing, 8));
        assert_eq!(shelf.things.len(), 8);
        // They came since: nobody can say yet whether they are needed.
        shelf.trim(2);
        assert_eq!(shelf.things.len(), 8);
        // Three at once, and back.
        let taken: Vec<_> = (0..3).map_while(|_| shelf.take()).collect();
        taken.into_iter().for_each(|thing| shelf.give(thing, 8));
        shelf.trim(2);
        assert_eq!(shelf.things.len(), 3);
        shelf.trim(2);
        assert_eq!(shelf.things.len(), 2);
        assert!(shelf.take().is_some() && shelf.take().is_some() && shelf.take().is_none());
        shelf.trim(2);
        assert!(shelf.things.is_empty());
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 99, 100, 65_536, u64::MAX] {
            let mut buffer = Buffer::small();
            buffer.push_number(number);
            assert_eq!(buffer.filled(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn pushing_past_the_end_grows_and_keeps_what_was_there() {
        let mut buffer = Buffer::small();
        buffer.push(&[1; SMALL - 1]);
        buffer.consume(1);
        buffer.push(&[2; 2]);
        assert_eq!(buffer.block.len(), SMALL, "consumed room is used before growing");
        buffer.push(&[3; 10]);
        assert_eq!(buffer.len(), SMALL + 10);
        assert!(buffer.filled().ends_with(&[2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]));
    }

    #[test]
    fn a_fitted_copy_holds_what_is_there_and_no_more() {
        let mut buffer = Buffer::small();
        buffer.push(b"gone, kept");
        buffer.consume(6);
        let fitted = buffer.fitted();
        assert_eq!((fitted.filled(), fitted.block.len()), (&b"kept"[..], 4));
    }

    #[test]
    fn a_dropped_block_is_used_again() {
        let first = Buffer::small();
        let place = first.block.as_ptr();
        drop(first);
        assert_eq!(Buffer::small().block.as_ptr(), place);
    }
}

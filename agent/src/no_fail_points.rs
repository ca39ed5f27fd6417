//! What goes onto terminals: nothing fails on purpose.

use super::Done;

#[inline(always)]
pub(super) fn pass() {}

#[inline(always)]
pub(super) fn tears() -> bool {
    false
}

#[inline(always)]
pub(super) fn done(_: &Done<'_>) {}

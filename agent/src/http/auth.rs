//! Who asks.

/// An extension of a request whose sender said who he is, and was believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authenticated;

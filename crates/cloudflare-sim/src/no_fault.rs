//! Takes the place of `fault.rs` without the feature `faults`: the same types without a value, so that
//! nothing goes wrong and the compiler knows it.

use std::{io, ops::ControlFlow};

use tokio::net::TcpStream;

use super::{answer::Answer, listing::PageRequest};

/// What a listing holds: anything.
pub(super) trait ListedEntry {}

impl<T> ListedEntry for T {}

/// Something that goes wrong: nothing, without the feature `faults`.
#[derive(Debug, Clone)]
pub enum Fault {}

impl Fault {
    pub(super) fn due(&mut self, _page: usize, _due: &mut Vec<Self>) -> bool {
        match *self {}
    }

    pub(super) fn alter_page<E: ListedEntry>(&self, _page: &mut PageRequest, _entries: &mut Vec<E>) {
        match *self {}
    }

    pub(super) fn alter(self, _answer: &mut Answer) {
        match self {}
    }
}

/// How an answer gets onto the wire, other than as it should: in no way, without the feature `faults`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Delivery {}

impl Delivery {
    pub(super) async fn send(
        self,
        _stream: &mut TcpStream,
        _answer: &Answer,
        _body: &[u8],
    ) -> io::Result<ControlFlow<()>> {
        match self {}
    }
}

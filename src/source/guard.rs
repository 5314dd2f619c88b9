//! Which addresses a request may go to, checked after name resolution.

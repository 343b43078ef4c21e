//! Faults of backends, one after the other: what each does to a request by its
//! method, with and without another backend, for clients of HTTP/1.1 and HTTP/2;
//! what stands in the log; and that the next request finds all in order.

mod again;
mod faulty;
mod h2c;
mod reach;
mod table;
mod told;

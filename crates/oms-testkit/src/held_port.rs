//! The port of a server that is down for a while, kept from others: tests run beside each other, and
//! each server that is started is given a port that is free at that moment.

use std::net::{Ipv4Addr, SocketAddrV4};

use tokio::net::TcpSocket;

/// A port on loopback that is bound by a socket that does not listen: connections to it are refused,
/// nobody else is given it, and the server that it belongs to can have it back while it is held.
pub struct HeldPort {
    socket: TcpSocket,
}

impl HeldPort {
    /// One that is free, held for a server that is about to start and takes it over by
    /// `SO_REUSEADDR`, as most do.
    pub fn any() -> (u16, Self) {
        let held = Self::hold(0).expect("a free port");
        let port = held.socket.local_addr().expect("an address").port();
        (port, held)
    }

    /// Holds it; an error means that somebody was quicker.
    pub fn hold(port: u16) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // With it, and as long as neither listens, two sockets may bind one port.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())?;
        Ok(Self { socket })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_held_port_refuses_and_is_given_back_to_who_had_it() {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = first.local_addr().expect("an address");
        drop(first);
        let _held = HeldPort::hold(address.port()).expect("held");
        assert!(TcpStream::connect(address).is_err());
        let again = TcpListener::bind(address).expect("the same port");
        TcpStream::connect(address).expect("connected");
        drop(again);
    }
}

//! What a route requires, and what a caller may do.

/// What a route requires of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No token: health, metrics, the description of the API.
    Public,
    /// A known token, whatever its roles.
    Known,
    /// The role `read`.
    Read,
    /// The role `write`.
    Write,
    /// The role `admin`.
    Admin,
}

impl Access {
    pub fn role(self) -> &'static str {
        match self {
            Access::Public | Access::Known => "",
            Access::Read => "read",
            Access::Write => "write",
            Access::Admin => "admin",
        }
    }
}

/// The roles of a token. None implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    pub read: bool,
    pub write: bool,
    pub admin: bool,
}

impl Roles {
    pub const ALL: Roles = Roles {
        read: true,
        write: true,
        admin: true,
    };

    pub fn names(self) -> Vec<&'static str> {
        let all = [Access::Read, Access::Write, Access::Admin];
        let allowed = all.into_iter().filter(|access| self.allow(*access));
        allowed.map(Access::role).collect()
    }

    /// Whether these roles allow the route.
    pub fn allow(self, access: Access) -> bool {
        match access {
            Access::Public | Access::Known => true,
            Access::Read => self.read,
            Access::Write => self.write,
            Access::Admin => self.admin,
        }
    }
}

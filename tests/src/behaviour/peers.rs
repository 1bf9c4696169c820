//! The caches that koorde is compared with, as an operator would set them up: `tests/peers/`.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time,
};

use super::target::{Door, Target};

/// A peer: its name, its program, its configuration.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its Debian package, too.
    pub name: &'static str,
    program: &'static str,
    config: &'static str,
    arguments: &'static [&'static str],
}

/// Words in capitals are replaced: PORT, ORIGIN (address and port), HOST, ORIGIN_PORT, FOLDER,
/// CONFIG.
pub const PEERS: [Peer; 3] = [
    Peer {
        name: "nginx",
        program: "/usr/sbin/nginx",
        config: include_str!("../../peers/nginx.conf"),
        arguments: &["-p", "FOLDER", "-c", "CONFIG", "-e", "FOLDER/error.log"],
    },
    Peer {
        name: "varnish",
        program: "/usr/sbin/varnishd",
        config: include_str!("../../peers/varnish.vcl"),
        arguments: &[
            "-F",
            "-n",
            "FOLDER/work",
            "-a",
            "127.0.0.1:PORT",
            "-f",
            "CONFIG",
            "-s",
            "malloc,256m",
            "-p",
            "default_ttl=0",
            "-p",
            "default_grace=0",
            "-p",
            "default_keep=3600",
            "-p",
            "thread_pool_min=200",
        ],
    },
    Peer {
        name: "squid",
        program: "/usr/sbin/squid",
        config: include_str!("../../peers/squid.conf"),
        arguments: &["-N", "-f", "CONFIG"],
    },
];

/// A running peer. It ends when dropped.
#[derive(Debug)]
pub struct Running {
    /// What to ask.
    pub target: Target,
    _child: Child,
    folder: PathBuf,
}

impl Peer {
    /// Whether its program is there.
    pub fn is_installed(&self) -> bool {
        std::path::Path::new(self.program).exists()
    }

    /// Starts it in front of the origin and waits until it listens.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn start(&self, origin: SocketAddr) -> Result<Running, String> {
        let bad = |error: std::io::Error| format!("{}: {error}", self.name);
        let port = free_port().map_err(bad)?;
        let name = format!("koorde-peer-{}-{}", self.name, std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).map_err(bad)?;
        open_to_all(&folder).map_err(bad)?;
        let config = folder.join("config");
        let fill = |text: &str| {
            text.replace("ORIGIN_PORT", &origin.port().to_string())
                .replace("ORIGIN", &origin.to_string())
                .replace("PORT", &port.to_string())
                .replace("CONFIG", &config.display().to_string())
                .replace("FOLDER", &folder.display().to_string())
        };
        std::fs::write(&config, fill(self.config)).map_err(bad)?;
        let output = std::fs::File::create(folder.join("output")).map_err(bad)?;
        let child = Command::new(self.program)
            .args(self.arguments.iter().map(|argument| fill(argument)))
            .stdout(Stdio::null())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .map_err(bad)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let running = Running {
            target: Target {
                name: self.name.to_owned(),
                addresses: vec![address],
                door: Door::Reverse,
                is_koorde: false,
                app: None,
            },
            _child: child,
            folder,
        };
        for _ in 0..400 {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(running);
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        let output = std::fs::read_to_string(running.folder.join("output")).unwrap_or_default();
        Err(format!("{} does not listen: {output}", self.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A folder of temporary files that stays is no harm.
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

/// Peers give up root for a user of their own, who has to write here.
fn open_to_all(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777))
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

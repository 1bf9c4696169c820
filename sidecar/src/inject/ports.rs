//! Ports that a container listens on, as far as its manifest tells: few declare them all.

use serde_json::Value;

/// What the kubelet connects to.
const PROBES: [&str; 5] = [
    "/livenessProbe",
    "/readinessProbe",
    "/startupProbe",
    "/lifecycle/postStart",
    "/lifecycle/preStop",
];
/// How.
const ACTIONS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// TCP ports that are declared, probed, or told to the app by `PORT`; some more than once.
pub(super) fn of(container: &Value) -> impl Iterator<Item = u16> {
    let declared = list(container, "ports").filter(|port| {
        let protocol = port["protocol"].as_str();
        protocol.is_none_or(|protocol| protocol == "TCP")
    });
    let declared = declared.filter_map(|port| port["containerPort"].as_u64());
    let probed = PROBES.iter().flat_map(|probe| {
        let probe = container.pointer(probe).unwrap_or(&Value::Null);
        ACTIONS.iter().map(move |action| &probe[*action])
    });
    // With a host of its own it is a port of somebody else; a name is a declared one.
    let probed = probed.filter(|action| action["host"].as_str().is_none_or(str::is_empty));
    let probed = probed.filter_map(|action| action["port"].as_u64());
    let told = list(container, "env").filter(|variable| variable["name"] == "PORT");
    let told = told.filter_map(|variable| variable["value"].as_str()?.parse().ok());
    let all = declared.chain(probed).chain(told);
    all.filter_map(|port| u16::try_from(port).ok())
}

fn list<'a>(container: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    container[name].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_app_on_a_port_that_it_only_probes_or_is_told_counts() {
        for (container, ports) in [
            (
                json!({"ports": [{"containerPort": 4000}, {"containerPort": 53, "protocol": "UDP"}]}),
                vec![4000],
            ),
            (
                json!({"livenessProbe": {"httpGet": {"path": "/", "port": 4000}}}),
                vec![4000],
            ),
            (
                json!({"startupProbe": {"tcpSocket": {"port": 4080}}}),
                vec![4080],
            ),
            (
                json!({"readinessProbe": {"grpc": {"port": 4090}}}),
                vec![4090],
            ),
            (
                json!({"lifecycle": {"preStop": {"httpGet": {"port": 4000}}}}),
                vec![4000],
            ),
            (
                json!({"readinessProbe": {"httpGet": {"port": "web"}}}),
                vec![],
            ),
            (
                json!({"readinessProbe": {"tcpSocket": {"host": "db.internal", "port": 4000}}}),
                vec![],
            ),
            (
                json!({"env": [{"name": "PORT", "value": "4000"}, {"name": "X", "value": "4080"}]}),
                vec![4000],
            ),
            (
                json!({"env": [{"name": "PORT", "value": "tcp://10.0.0.1:4000"}, {"name": "PORT"}]}),
                vec![],
            ),
        ] {
            assert_eq!(of(&container).collect::<Vec<_>>(), ports, "{container}");
        }
    }
}

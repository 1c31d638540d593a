# A NoCloud network-config, version 2, turned into `ip` commands.
#
# It reads words, not lines, so that block YAML, flow YAML and JSON all do: a word that ends with
# a colon is a key, the words up to the next key are its values. A key that is none of the known
# ones begins the next NIC. Addresses are told from name servers by their prefix length.

BEGIN {
    split("network version ethernets match macaddress driver name set-name addresses gateway4 gateway6 " \
          "dhcp4 dhcp6 accept-ra nameservers search routes to via metric on-link mtu optional renderer " \
          "link-local dhcp-identifier wakeonlan", list, " ")
    for (i in list) known[list[i]] = 1
    while ((getline link < "/run/tiny/links") > 0) { split(link, l, " "); by_mac[l[2]] = l[1] }
    nics = 0
}

{
    sub(/(^|[ \t])#.*/, "")
    # "key": becomes key: (but a value such as "::/0" keeps its colons).
    while (match($0, /[A-Za-z0-9_-]["'][ \t]*:/)) $0 = substr($0, 1, RSTART) ": " substr($0, RSTART + RLENGTH)
    gsub(/["'{},]|\[|\]/, " ")
    for (i = 1; i <= NF; i++) word($i)
}

function word(w) {
    if (w == "-") return
    if (w ~ /:$/ && w !~ /::$/) {
        key = substr(w, 1, length(w) - 1)
        if (!(key in known)) id[++nics] = key
        return
    }
    if (key == "macaddress") mac[nics] = tolower(w)
    else if (key == "addresses" && w ~ /\//) addresses[nics] = addresses[nics] " " w
    else if (key == "gateway4") route(nics, "default", w)
    else if (key == "gateway6") route(nics, "default", w)
    else if (key == "mtu") mtu[nics] = w
    else if (key == "to") { to = w; pair() }
    else if (key == "via") { via = w; pair() }
}

# `to` and `via` of one route come in either order.
function pair() {
    if (to == "" || via == "") return
    route(nics, to == "0.0.0.0/0" || to == "::/0" ? "default" : to, via)
    to = via = ""
}

function route(nic, target, gateway) {
    routes[nic] = routes[nic] target " " gateway "\n"
    if (target == "default") gateways[gateway ~ /:/ ? "gateway6" : "gateway4"] = gateway
}

END {
    for (n = 1; n <= nics; n++) {
        dev = mac[n] in by_mac ? by_mac[mac[n]] : mac[n] == "" ? id[n] : ""
        if (dev == "") { print "say 'no NIC has the address " mac[n] "'"; continue }
        print "ip link set " dev (mtu[n] ? " mtu " mtu[n] : "") " up"
        count = split(addresses[n], a, " ")
        for (i = 1; i <= count; i++) print "ip addr add " a[i] " dev " dev
        count = split(routes[n], r, "\n")
        for (i = 1; i < count; i++) {
            split(r[i], p, " ")
            print "ip " (p[2] ~ /:/ ? "-6 " : "") "route add " p[1] " via " p[2] " dev " dev
        }
    }
    for (g in gateways) print gateways[g] > ("/run/tiny/" g)
}

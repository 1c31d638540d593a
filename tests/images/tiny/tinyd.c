// The tiny guest's only process after its init script: it answers HTTP, obeys the ACPI power
// button and, when asked, sends frames that an honest guest would never send, and is a guest agent
// of better and worse manners.
//
// It runs as PID 1 in an initramfs. Each request is served by a forked child, so that a slow
// client never delays the power button. What it tells about the guest was left in /run/tiny by
// the init script. See docs/lab.md for the interface.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/fs.h>
#include <linux/if_packet.h>
#include <linux/input.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <unistd.h>

#define MARKER "/disk/marker"
#define MARKER_MAX 65536

static void say(const char *format, ...) {
    double up = 0;
    FILE *f = fopen("/proc/uptime", "r");
    if (f) {
        if (fscanf(f, "%lf", &up) != 1) up = 0;
        fclose(f);
    }
    va_list args;
    va_start(args, format);
    printf("tiny: [%.2f] ", up);
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
    va_end(args);
}

// Reads a whole file, up to a limit. The answer is the caller's; NULL when there is none.
static char *slurp(const char *path, size_t *length) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) return NULL;
    char *text = calloc(1, MARKER_MAX + 1);
    size_t n = 0;
    ssize_t got;
    while (n < MARKER_MAX && (got = read(fd, text + n, MARKER_MAX - n)) > 0) n += (size_t)got;
    close(fd);
    if (length) *length = n;
    return text;
}

static char *fact(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "/run/tiny/%s", name);
    char *text = slurp(path, NULL);
    if (text) text[strcspn(text, "\n")] = 0;
    return text;
}

static void json_string(FILE *out, const char *text) {
    if (!text) {
        fputs("null", out);
        return;
    }
    fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') fprintf(out, "\\%c", *c);
        else if (*c < 0x20) fprintf(out, "\\u%04x", *c);
        else fputc(*c, out);
    }
    fputc('"', out);
}

static void json_field(FILE *out, const char *name, const char *text) {
    fprintf(out, "\"%s\":", name);
    json_string(out, text);
}

// ---- power ----------------------------------------------------------------------------------

static void settle_disk(void) {
    sync();
    if (umount2("/disk", 0) != 0) mount(NULL, "/disk", NULL, MS_REMOUNT | MS_RDONLY, NULL);
    sync();
}

static void power(int how, const char *why) {
    say("%s", why);
    settle_disk();
    reboot(how);
    say("reboot(2) failed: %s", strerror(errno));
}

static void crash(void) {
    say("crashing, as asked");
    sync();
    int fd = open("/proc/sys/kernel/sysrq", O_WRONLY);
    if (fd >= 0) {
        (void)!write(fd, "1", 1);
        close(fd);
    }
    fd = open("/proc/sysrq-trigger", O_WRONLY);
    if (fd >= 0) (void)!write(fd, "c", 1);
    say("the kernel would not crash: %s", strerror(errno));
}

// ---- spoofed frames -------------------------------------------------------------------------

struct spoof {
    const char *kind;
    const char *nic;
    int ifindex;
    unsigned char own_mac[6], gw_mac[6], false_mac[6];
    struct in_addr own4, gw4, false4;
    struct in6_addr own6, gw6, false6;
    int has4, has6;
};

static uint16_t checksum(const void *data, size_t n, uint32_t sum) {
    const unsigned char *p = data;
    for (size_t i = 0; i + 1 < n; i += 2) sum += (uint32_t)(p[i] << 8 | p[i + 1]);
    if (n & 1) sum += (uint32_t)(p[n - 1] << 8);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static size_t put_ethernet(unsigned char *f, const unsigned char *to, const unsigned char *from, uint16_t type) {
    memcpy(f, to, 6);
    memcpy(f + 6, from, 6);
    f[12] = (unsigned char)(type >> 8);
    f[13] = (unsigned char)type;
    return 14;
}

// Payload of every IP packet: a test finds its frames by it, whatever their headers claim.
static size_t put_udp(unsigned char *p, const char *kind) {
    char text[64];
    int n = snprintf(text, sizeof text, "tiny-spoof kind=%s", kind);
    uint16_t words[4] = {htons(40009), htons(9), htons((uint16_t)(8 + n)), 0};
    memcpy(p, words, 8);
    memcpy(p + 8, text, (size_t)n);
    return 8 + (size_t)n;
}

static size_t put_ipv4(unsigned char *p, struct in_addr from, struct in_addr to, const char *kind) {
    size_t body = put_udp(p + 20, kind);
    unsigned char head[20] = {0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17};
    head[2] = (unsigned char)((20 + body) >> 8);
    head[3] = (unsigned char)(20 + body);
    memcpy(head + 12, &from, 4);
    memcpy(head + 16, &to, 4);
    uint16_t sum = htons(checksum(head, 20, 0));
    memcpy(head + 10, &sum, 2);
    memcpy(p, head, 20);
    return 20 + body;
}

// The next header is 17 (UDP) or 58 (ICMPv6); both sums cover the same pseudo header.
static size_t put_ipv6(unsigned char *p, struct in6_addr from, struct in6_addr to, unsigned char next,
                       size_t body, size_t sum_at) {
    unsigned char head[8] = {0x60, 0, 0, 0, (unsigned char)(body >> 8), (unsigned char)body, next, 255};
    memcpy(p, head, 8);
    memcpy(p + 8, &from, 16);
    memcpy(p + 24, &to, 16);
    memset(p + 40 + sum_at, 0, 2);
    uint32_t pseudo = (uint32_t)body + next;
    for (int i = 8; i < 40; i += 2) pseudo += (uint32_t)(p[i] << 8 | p[i + 1]);
    uint16_t sum = htons(checksum(p + 40, body, pseudo));
    if (sum == 0) sum = 0xffff;
    memcpy(p + 40 + sum_at, &sum, 2);
    return 40 + body;
}

static size_t put_arp(unsigned char *p, const unsigned char *sender_mac, struct in_addr sender, struct in_addr target) {
    static const unsigned char head[8] = {0, 1, 8, 0, 6, 4, 0, 1};
    memset(p, 0, 46);
    memcpy(p, head, 8);
    memcpy(p + 8, sender_mac, 6);
    memcpy(p + 14, &sender, 4);
    memcpy(p + 24, &target, 4);
    return 46;
}

// Builds one frame of the wanted kind; 0 when there is no such kind or no address for it.
static size_t build_frame(unsigned char *f, const struct spoof *s) {
    static const unsigned char everyone[6] = {255, 255, 255, 255, 255, 255};
    unsigned char all6[6] = {0x33, 0x33};
    memcpy(all6 + 2, (const unsigned char *)&s->gw6 + 12, 4);
    const unsigned char *to6 = s->gw6.s6_addr[0] == 0xff ? all6 : s->gw_mac;
    const char *k = s->kind;

    if (!strcmp(k, "ipv6") || !strcmp(k, "honest6")) {
        if (!s->has6) return 0;
        size_t n = put_ethernet(f, to6, s->own_mac, ETHERTYPE_IPV6);
        size_t body = put_udp(f + n + 40, k);
        return n + put_ipv6(f + n, *k == 'i' ? s->false6 : s->own6, s->gw6, 17, body, 6);
    }
    if (!strcmp(k, "ndp")) { // an unsolicited advertisement of an address that is not ours
        if (!s->has6) return 0;
        struct in6_addr all_nodes;
        inet_pton(AF_INET6, "ff02::1", &all_nodes);
        static const unsigned char all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
        size_t n = put_ethernet(f, all_nodes_mac, s->own_mac, ETHERTYPE_IPV6);
        unsigned char *p = f + n + 40;
        memset(p, 0, 32);
        p[0] = 136;
        p[4] = 0x20;
        memcpy(p + 8, &s->false6, 16);
        p[24] = 2;
        p[25] = 1;
        memcpy(p + 26, s->own_mac, 6);
        return n + put_ipv6(f + n, s->own6, all_nodes, 58, 32, 2);
    }
    if (!s->has4) return 0;
    if (!strcmp(k, "honest")) {
        size_t n = put_ethernet(f, s->gw_mac, s->own_mac, ETHERTYPE_IP);
        return n + put_ipv4(f + n, s->own4, s->gw4, k);
    }
    if (!strcmp(k, "mac")) {
        size_t n = put_ethernet(f, s->gw_mac, s->false_mac, ETHERTYPE_IP);
        return n + put_ipv4(f + n, s->own4, s->gw4, k);
    }
    if (!strcmp(k, "ipv4")) {
        size_t n = put_ethernet(f, s->gw_mac, s->own_mac, ETHERTYPE_IP);
        return n + put_ipv4(f + n, s->false4, s->gw4, k);
    }
    if (!strcmp(k, "honestarp")) {
        size_t n = put_ethernet(f, everyone, s->own_mac, ETHERTYPE_ARP);
        return n + put_arp(f + n, s->own_mac, s->own4, s->gw4);
    }
    if (!strcmp(k, "arp")) {
        size_t n = put_ethernet(f, everyone, s->own_mac, ETHERTYPE_ARP);
        return n + put_arp(f + n, s->own_mac, s->false4, s->gw4);
    }
    if (!strcmp(k, "arpmac")) {
        size_t n = put_ethernet(f, everyone, s->own_mac, ETHERTYPE_ARP);
        return n + put_arp(f + n, s->false_mac, s->own4, s->gw4);
    }
    if (!strcmp(k, "vlan")) { // a false IPv4 source hidden behind an 802.1Q tag
        size_t n = put_ethernet(f, s->gw_mac, s->own_mac, 0x8100);
        f[n++] = 0;
        f[n++] = 7;
        f[n++] = 8;
        f[n++] = 0;
        return n + put_ipv4(f + n, s->false4, s->gw4, k);
    }
    return 0;
}

// The gateway's MAC, as the kernel knows it; everyone's otherwise.
static void find_gateway_mac(struct spoof *s) {
    memset(s->gw_mac, 255, 6);
    FILE *f = fopen("/proc/net/arp", "r");
    if (!f) return;
    char line[256], address[64], mac[64];
    while (fgets(line, sizeof line, f)) {
        struct in_addr a;
        unsigned m[6];
        if (sscanf(line, "%63s %*s %*s %63s", address, mac) == 2 && inet_pton(AF_INET, address, &a) == 1 &&
            a.s_addr == s->gw4.s_addr &&
            sscanf(mac, "%x:%x:%x:%x:%x:%x", m, m + 1, m + 2, m + 3, m + 4, m + 5) == 6 &&
            (m[0] | m[1] | m[2] | m[3] | m[4] | m[5]))
            for (int i = 0; i < 6; i++) s->gw_mac[i] = (unsigned char)m[i];
    }
    fclose(f);
}

static int find_own_addresses(struct spoof *s) {
    struct ifaddrs *all, *a;
    struct ifreq req = {0};
    snprintf(req.ifr_name, sizeof req.ifr_name, "%s", s->nic);
    s->ifindex = (int)if_nametoindex(s->nic);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (!s->ifindex || fd < 0 || ioctl(fd, SIOCGIFHWADDR, &req) != 0) return -1;
    close(fd);
    memcpy(s->own_mac, req.ifr_hwaddr.sa_data, 6);
    if (getifaddrs(&all) != 0) return -1;
    for (a = all; a; a = a->ifa_next) {
        if (!a->ifa_addr || strcmp(a->ifa_name, s->nic)) continue;
        if (a->ifa_addr->sa_family == AF_INET && !s->has4) {
            s->own4 = ((struct sockaddr_in *)a->ifa_addr)->sin_addr;
            // Without a gateway: the first host address of the network.
            uint32_t mask = ((struct sockaddr_in *)a->ifa_netmask)->sin_addr.s_addr;
            s->gw4.s_addr = htonl(ntohl(s->own4.s_addr & mask) + 1);
            s->has4 = 1;
        }
        if (a->ifa_addr->sa_family == AF_INET6 && (!s->has6 || IN6_IS_ADDR_LINKLOCAL(&s->own6))) {
            s->own6 = ((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr;
            s->has6 = 1;
        }
    }
    freeifaddrs(all);
    inet_pton(AF_INET6, "ff02::1", &s->gw6);
    return 0;
}

static int spoof(FILE *out, const char *kind, const char *nic, const char *as, const char *to, int count) {
    struct spoof s = {.kind = kind, .nic = nic};
    unsigned char frame[512];
    static const unsigned char false_mac[6] = {0x02, 0xba, 0xd0, 0, 0, 1};
    memcpy(s.false_mac, false_mac, 6);
    inet_pton(AF_INET, "198.51.100.66", &s.false4);
    inet_pton(AF_INET6, "2001:db8:bad::66", &s.false6);
    if (find_own_addresses(&s) != 0) return 400;
    char *gw4 = fact("gateway4"), *gw6 = fact("gateway6");
    if (gw4) inet_pton(AF_INET, gw4, &s.gw4);
    if (gw6) inet_pton(AF_INET6, gw6, &s.gw6);
    if (*to && inet_pton(AF_INET, to, &s.gw4) != 1 && inet_pton(AF_INET6, to, &s.gw6) != 1) return 400;
    if (*as) {
        unsigned m[6];
        if (sscanf(as, "%2x:%2x:%2x:%2x:%2x:%2x", m, m + 1, m + 2, m + 3, m + 4, m + 5) == 6)
            for (int i = 0; i < 6; i++) s.false_mac[i] = (unsigned char)m[i];
        else if (inet_pton(AF_INET, as, &s.false4) != 1 && inet_pton(AF_INET6, as, &s.false6) != 1)
            return 400;
    }
    find_gateway_mac(&s);

    size_t n = build_frame(frame, &s);
    if (n == 0) return 400;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) return 500;
    struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_ifindex = s.ifindex, .sll_halen = 6};
    memcpy(where.sll_addr, frame, 6);
    int sent = 0;
    for (int i = 0; i < count; i++) sent += sendto(fd, frame, n, 0, (struct sockaddr *)&where, sizeof where) == (ssize_t)n;
    close(fd);
    say("spoof: kind %s on %s, %d frames of %zu bytes", kind, nic, sent, n);

    fputc('{', out);
    json_field(out, "kind", kind);
    fputc(',', out);
    json_field(out, "nic", nic);
    fprintf(out, ",\"sent\":%d,\"frame\":\"", sent);
    for (size_t i = 0; i < n; i++) fprintf(out, "%02x", frame[i]);
    fputs("\"}\n", out);
    return 200;
}

// ---- what the guest tells about itself ------------------------------------------------------

static void nics(FILE *out) {
    struct ifaddrs *all, *a, *b;
    const char *comma = "";
    fputs("\"nics\":[", out);
    if (getifaddrs(&all) == 0) {
        for (a = all; a; a = a->ifa_next) {
            if (!a->ifa_addr || a->ifa_addr->sa_family != AF_PACKET || (a->ifa_flags & IFF_LOOPBACK)) continue;
            const unsigned char *m = ((struct sockaddr_ll *)a->ifa_addr)->sll_addr;
            fprintf(out, "%s{\"name\":\"%s\",\"mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\",\"addresses\":[", comma,
                    a->ifa_name, m[0], m[1], m[2], m[3], m[4], m[5]);
            comma = ",";
            const char *inner = "";
            for (b = all; b; b = b->ifa_next) {
                if (!b->ifa_addr || strcmp(a->ifa_name, b->ifa_name)) continue;
                int family = b->ifa_addr->sa_family, bits = 0;
                char text[64];
                const unsigned char *mask;
                if (family == AF_INET) {
                    inet_ntop(family, &((struct sockaddr_in *)b->ifa_addr)->sin_addr, text, sizeof text);
                    mask = (const unsigned char *)&((struct sockaddr_in *)b->ifa_netmask)->sin_addr;
                } else if (family == AF_INET6) {
                    inet_ntop(family, &((struct sockaddr_in6 *)b->ifa_addr)->sin6_addr, text, sizeof text);
                    mask = (const unsigned char *)&((struct sockaddr_in6 *)b->ifa_netmask)->sin6_addr;
                } else {
                    continue;
                }
                for (int i = 0; i < (family == AF_INET ? 4 : 16); i++) bits += __builtin_popcount(mask[i]);
                fprintf(out, "%s\"%s/%d\"", inner, text, bits);
                inner = ",";
            }
            fputs("]}", out);
        }
        freeifaddrs(all);
    }
    fputs("]", out);
}

static void describe(FILE *out) {
    struct sysinfo si;
    sysinfo(&si);
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    char *boot = slurp("/proc/sys/kernel/random/boot_id", NULL);
    if (boot) boot[strcspn(boot, "\n")] = 0;
    char *up = slurp("/proc/uptime", NULL);
    char *sectors = slurp("/sys/block/vda/size", NULL);
    char *boots = fact("boots");

    fputc('{', out);
    json_field(out, "boot_id", boot);
    fputc(',', out);
    json_field(out, "hostname", host);
    fputc(',', out);
    json_field(out, "instance_id", fact("instance_id"));
    fputc(',', out);
    json_field(out, "user_data_sha256", fact("user_data_sha256"));
    fputc(',', out);
    json_field(out, "marker", slurp(MARKER, NULL));
    fprintf(out, ",\"boots\":%ld", boots ? atol(boots) : 0);
    fprintf(out, ",\"uptime\":%.2f", up ? atof(up) : 0.0);
    fprintf(out, ",\"memory_mib\":%lu,\"cpus\":%ld", si.totalram * si.mem_unit >> 20, sysconf(_SC_NPROCESSORS_ONLN));
    fprintf(out, ",\"disk_bytes\":%lld,", sectors ? atoll(sectors) * 512 : 0);
    nics(out);
    fputs("}\n", out);
}

// A whole new file beside the old one, made durable, then renamed over it.
static int write_marker(const char *value, size_t n) {
    int fd = open(MARKER ".new", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return -1;
    int ok = write(fd, value, n) == (ssize_t)n && fsync(fd) == 0;
    close(fd);
    if (!ok || rename(MARKER ".new", MARKER) != 0) return -1;
    sync();
    say("marker written, %zu bytes", n);
    return 0;
}

// ---- the guest agent ------------------------------------------------------------------------

// Shared by the process that is the agent and those that serve HTTP.
static struct {
    char manners[16]; // honest, silent, refuses, slow, keeps
    int times;        // slow: seconds before it freezes; keeps: thaws that it leaves unanswered
    int freezes, thaws, frozen;
} *agent;

static int open_agent_port(void) {
    DIR *dir = opendir("/sys/class/virtio-ports");
    int found = -1;
    for (struct dirent *d; dir && found < 0 && (d = readdir(dir));) {
        char path[400];
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", d->d_name);
        char *name = d->d_name[0] == '.' ? NULL : slurp(path, NULL);
        if (!name || strncmp(name, "org.qemu.guest_agent.0", 22)) continue;
        snprintf(path, sizeof path, "/dev/%s", d->d_name);
        found = open(path, O_RDWR | O_CLOEXEC);
    }
    if (dir) closedir(dir);
    return found;
}

// Really freezes or thaws the disk.
static int set_frozen(int freeze) {
    int fd = open("/disk", O_RDONLY | O_DIRECTORY);
    if (fd < 0) return -1;
    int failed = ioctl(fd, freeze ? FIFREEZE : FITHAW, 0);
    close(fd);
    if (!failed) agent->frozen = freeze;
    say("agent: %s, %s", freeze ? "freeze" : "thaw", failed ? strerror(errno) : "done");
    return failed;
}

static void agent_hears(int port, const char *line) {
    const char *id = strstr(line, "\"id\":");
    int is_freeze = !!strstr(line, "guest-fsfreeze-freeze"), is_thaw = !!strstr(line, "guest-fsfreeze-thaw");
    if (!strcmp(agent->manners, "silent")) return;
    if (strstr(line, "guest-sync")) {
        dprintf(port, "{\"return\":%lld}\n", id ? atoll(id + 5) : 0);
    } else if (strstr(line, "guest-get-time")) {
        dprintf(port, "{\"return\":1700000000000000000}\n");
    } else if ((is_freeze || is_thaw) && !strcmp(agent->manners, "refuses")) {
        dprintf(port, "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"this guest freezes nothing\"}}\n");
    } else if (is_freeze) {
        agent->freezes++;
        if (!strcmp(agent->manners, "slow")) sleep((unsigned)agent->times);
        dprintf(port, "{\"return\":%d}\n", set_frozen(1) == 0);
    } else if (is_thaw) {
        agent->thaws++;
        if (!strcmp(agent->manners, "keeps") && agent->times-- > 0) return;
        dprintf(port, "{\"return\":%d}\n", agent->frozen && set_frozen(0) == 0);
    } else if (strstr(line, "guest-shutdown")) {
        power(RB_POWER_OFF, "powering off, as asked by the guest agent's channel");
    } else {
        dprintf(port, "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no such command\"}}\n");
    }
}

static void be_agent(void) {
    static char line[8192];
    size_t n = 0;
    int port = open_agent_port();
    if (port < 0) say("agent: no port: %s", strerror(errno));
    for (char c; port >= 0;) {
        ssize_t got = read(port, &c, 1);
        if (got <= 0) { // nobody has the other end open
            usleep(100 * 1000);
        } else if (c == '\n') {
            line[n] = 0;
            agent_hears(port, line);
            n = 0;
        } else if (n < sizeof line - 1) {
            line[n++] = c;
        }
    }
    _exit(1);
}

static void start_agent(void) {
    agent = mmap(NULL, sizeof *agent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(agent->manners, "honest");
    if (fork() == 0) be_agent();
}

static void describe_agent(FILE *out) {
    fputc('{', out);
    json_field(out, "manners", agent->manners);
    fprintf(out, ",\"freezes\":%d,\"thaws\":%d,\"frozen\":%s}\n", agent->freezes, agent->thaws,
            agent->frozen ? "true" : "false");
}

// ---- HTTP -----------------------------------------------------------------------------------

static void percent_decode(char *s) {
    char *to = s;
    for (; *s; s++) {
        unsigned hex;
        if (*s == '%' && sscanf(s + 1, "%2x", &hex) == 1 && s[1] && s[2]) {
            *to++ = (char)hex;
            s += 2;
        } else {
            *to++ = *s == '+' ? ' ' : *s;
        }
    }
    *to = 0;
}

// The value of one query parameter, decoded; `otherwise` when it is not there.
static char *param(const char *query, const char *name, const char *otherwise) {
    size_t n = strlen(name);
    for (const char *p = query; p && *p; p = strchr(p, '&') ? strchr(p, '&') + 1 : NULL) {
        if (!strncmp(p, name, n) && p[n] == '=') {
            char *value = strndup(p + n + 1, strcspn(p + n + 1, "&"));
            percent_decode(value);
            return value;
        }
    }
    return strdup(otherwise);
}

static void answer(int fd, int status, const char *body, size_t n) {
    const char *words = status == 200 ? "OK" : status == 404 ? "Not Found" : status == 400 ? "Bad Request" : "Error";
    dprintf(fd, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
            status, words, n);
    (void)!write(fd, body, n);
}

// Sends the rest of an answer and waits until the client has it, before the machine goes away.
static void hang_up(int fd) {
    char rest[256];
    shutdown(fd, SHUT_WR);
    while (read(fd, rest, sizeof rest) > 0) {
    }
    close(fd);
}

static void serve(int fd) {
    static char request[8192 + MARKER_MAX + 1];
    size_t have = 0, want = 0;
    char *end = NULL;
    struct timeval patience = {.tv_sec = 2};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    while (have < sizeof request - 1 && (!end || have < want)) {
        ssize_t got = read(fd, request + have, sizeof request - 1 - have);
        if (got <= 0) break;
        have += (size_t)got;
        request[have] = 0;
        if (!end && (end = strstr(request, "\r\n\r\n"))) {
            char *length = strcasestr(request, "\r\ncontent-length:");
            want = (size_t)(end + 4 - request) + (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
            if (strcasestr(request, "\r\nexpect: 100-continue")) dprintf(fd, "HTTP/1.1 100 Continue\r\n\r\n");
        }
    }
    char method[16], target[4096];
    if (!end || sscanf(request, "%15s %4095s", method, target) != 2) return;
    char *query = strchr(target, '?');
    if (query) *query++ = 0;
    const char *path = target;
    if (!strncmp(path, "/cgi-bin/", 9)) path += 8;

    char *body = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&body, &n);
    int status = 200;
    void (*after)(void) = NULL;
    int how = 0, heal = 0;
    if (!strcmp(path, "/")) {
        describe(out);
    } else if (!strcmp(path, "/marker")) {
        size_t length = have > want ? want : have;
        char *value = param(query, "value", "");
        int failed = 0;
        if (!strcmp(method, "POST")) failed = write_marker(end + 4, length - (size_t)(end + 4 - request));
        else if (query && strstr(query, "value=")) failed = write_marker(value, strlen(value));
        if (failed) status = 500;
        fputc('{', out);
        json_field(out, "marker", slurp(MARKER, NULL));
        fputs("}\n", out);
    } else if (!strcmp(path, "/spoof")) {
        int count = atoi(param(query, "count", "3"));
        status = spoof(out, param(query, "kind", ""), param(query, "nic", "eth0"), param(query, "as", ""),
                       param(query, "to", ""), count < 1 ? 1 : count > 1000 ? 1000 : count);
        // An "arpmac" that gets through makes the host lose us; it takes a correction only after
        // its arp locktime of one second.
        heal = status == 200 && !strcmp(param(query, "kind", ""), "arpmac");
        if (status != 200) fputs("{\"error\":\"no such kind, no such NIC, or no address of that family\"}\n", out);
    } else if (!strcmp(path, "/agent") && agent) {
        char *manners = param(query, "manners", "");
        if (*manners) {
            agent->times = atoi(param(query, "times", "0"));
            snprintf(agent->manners, sizeof agent->manners, "%s", manners);
        }
        describe_agent(out);
    } else if (!strcmp(path, "/poweroff")) {
        how = RB_POWER_OFF;
        fputs("{\"poweroff\":true}\n", out);
    } else if (!strcmp(path, "/reboot")) {
        how = RB_AUTOBOOT;
        fputs("{\"reboot\":true}\n", out);
    } else if (!strcmp(path, "/crash")) {
        after = crash;
        fputs("{\"crash\":true}\n", out);
    } else {
        status = 404;
        fputs("{\"error\":\"no such path\"}\n", out);
    }
    fclose(out);
    answer(fd, status, body, n);
    hang_up(fd);
    if (heal) {
        usleep(1200 * 1000);
        spoof(stdout, "honestarp", param(query, "nic", "eth0"), "", param(query, "to", ""), 1);
    }
    if (after) after();
    if (how) power(how, how == RB_POWER_OFF ? "powering off, as asked over HTTP" : "rebooting, as asked over HTTP");
}

// ---- the power button, and the loop ---------------------------------------------------------

static int open_power_buttons(struct pollfd *fds, int room) {
    int found = 0;
    DIR *dir = opendir("/dev/input");
    for (struct dirent *d; dir && (d = readdir(dir)) && found < room;) {
        if (strncmp(d->d_name, "event", 5)) continue;
        char path[300];
        snprintf(path, sizeof path, "/dev/input/%s", d->d_name);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        unsigned long keys[KEY_MAX / (8 * sizeof(long)) + 1] = {0};
        if (fd < 0) continue;
        ioctl(fd, EVIOCGBIT(EV_KEY, sizeof keys), keys);
        if (keys[KEY_POWER / (8 * sizeof(long))] >> (KEY_POWER % (8 * sizeof(long))) & 1)
            fds[found++] = (struct pollfd){.fd = fd, .events = POLLIN};
        else
            close(fd);
    }
    if (dir) closedir(dir);
    return found;
}

static int run(int ignore_button, int with_agent) {
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    reboot(RB_DISABLE_CAD);
    if (with_agent) start_agent();
    int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&any, sizeof any) != 0 || listen(listener, 64) != 0)
        say("cannot listen on port 80: %s", strerror(errno));
    struct pollfd fds[8] = {{.fd = listener, .events = POLLIN}};
    int n = 1 + open_power_buttons(fds + 1, 7);
    say("ready; power button: %s", n == 1 ? "none found" : ignore_button ? "ignored" : "obeyed");
    for (;;) {
        if (poll(fds, (nfds_t)n, -1) < 0) continue;
        if (fds[0].revents & POLLIN) {
            int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0 && fork() == 0) {
                serve(fd);
                _exit(0);
            }
            if (fd >= 0) close(fd);
        }
        for (int i = 1; i < n; i++) {
            struct input_event e;
            while (fds[i].revents & POLLIN && read(fds[i].fd, &e, sizeof e) == sizeof e) {
                if (e.type != EV_KEY || e.code != KEY_POWER || e.value != 1) continue;
                if (ignore_button) say("power button pressed, ignored as user-data asks");
                else power(RB_POWER_OFF, "power button pressed, powering off");
            }
        }
    }
}

// ---- which disk is the seed -----------------------------------------------------------------

// Prints the file system and volume label of a device, "iso9660 cidata", when it knows them.
static int label(const char *path) {
    unsigned char b[512] = {0};
    char name[33] = "";
    const char *type = NULL;
    int fd = open(path, O_RDONLY);
    if (fd < 0) return 1;
    if (pread(fd, b, 512, 32768) == 512 && !memcmp(b + 1, "CD001", 5)) {
        type = "iso9660";
        memcpy(name, b + 40, 32);
    } else if (pread(fd, b, 512, 0) == 512 && b[510] == 0x55 && b[511] == 0xaa) {
        int at = !memcmp(b + 82, "FAT32", 5) ? 71 : !memcmp(b + 54, "FAT", 3) ? 43 : 0;
        if (at) {
            type = "vfat";
            memcpy(name, b + at, 11);
        }
    }
    if (!type) return 1;
    for (size_t n = strlen(name); n > 0 && name[n - 1] == ' ';) name[--n] = 0;
    printf("%s %s\n", type, name);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "label")) return label(argv[2]);
    int ignore_button = 0, with_agent = 0;
    for (int i = 1; i < argc; i++) {
        ignore_button |= !strcmp(argv[i], "--ignore-power-button");
        with_agent |= !strcmp(argv[i], "--guest-agent");
    }
    return run(ignore_button, with_agent);
}

#include "common/upstream_config.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

const std::string kKey = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";  // RFC 32's own example
const std::string kNext = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";

struct Read {
  std::vector<UpstreamConfig> upstreams{{"tcp://127.0.0.1:7401", {}}};
  KeysConfig keys;
};

Result<Read> read(const std::string& text, const std::string& allow = "") {
  YamlReader yaml = YamlReader::from_text("f", text);
  Read out;
  out.keys.allow = allow;
  read_upstreams(yaml, "upstream", out.upstreams);
  read_keys(yaml, out.keys);
  check_upstreams(yaml, "upstream", out.upstreams, out.keys);
  return yaml.done(std::move(out));
}

TEST(UpstreamConfig, OneEndpointAListOrGroupsAreTheSameThing) {
  const UpstreamConfig a{"tcp://127.0.0.1:1", {}};
  const UpstreamConfig b{"tcp://127.0.0.1:2", {}};
  for (const auto& [text, expected] :
       std::vector<std::pair<std::string, std::vector<UpstreamConfig>>>{
           {"{}", {{"tcp://127.0.0.1:7401", {}}}},
           {"upstream: tcp://127.0.0.1:1", {a}},
           {"upstream: ['tcp://127.0.0.1:1', 'tcp://127.0.0.1:2']", {a, b}},
           {"upstream: {endpoint: 'tcp://127.0.0.1:1'}", {a}},
           {"upstream:\n  - {endpoint: 'tcp://127.0.0.1:1'}\n  - endpoint: tcp://127.0.0.1:2\n",
            {a, b}}}) {
    const auto got = read(text);
    ASSERT_TRUE(got.ok()) << got.error().message;
    EXPECT_EQ(got->upstreams, expected) << text;
  }
}

TEST(UpstreamConfig, OffThisHostWithTheServersKeysAndOurOwn) {
  const auto got = read("upstream: {endpoint: 'tcp://eu.example.org:7401', server_keys: ['" + kKey +
                            "', '" + kNext + "']}\nkeys: {dir: /etc/weir/keys, allow: /a}\n",
                        "/etc/weir/allow.d");
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(got->upstreams,
            (std::vector<UpstreamConfig>{{"tcp://eu.example.org:7401", {kKey, kNext}}}));
  EXPECT_EQ(got->keys, (KeysConfig{"/etc/weir/keys", "/a"}));
}

TEST(UpstreamConfig, EveryMistakeSaysWhatToDo) {
  const std::string remote = "tcp://eu.example.org:7401";
  const std::string many = "upstream: [a:1, a:2, a:3, a:4, a:5, a:6, a:7, a:8, a:9]";
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {"upstream: []", "at least one endpoint"},
           {many, "at most 8 endpoints"},
           {"upstream: ['tcp://127.0.0.1:1', 'tcp://127.0.0.1:1']", "is there twice"},
           {"upstream: " + remote, "`weir keys new`"},
           {"upstream: [{endpoint: '" + remote + "'}]", "`server_keys`"},
           {"upstream: [{server_keys: ['" + kKey + "']}]", "endpoint: missing"},
           {"upstream: [{endpoint: '" + remote + "', server_keys: ['short']}]", "host.pub"},
           {"upstream: [{endpoint: '" + remote + "', server_keys: ['" + kKey + "']}]",
            "this host has no keys"},
           {"upstream: [{endpoint: 'tcp://127.0.0.1:1', server_keys: ['" + kKey + "', '" + kKey +
                "', '" + kKey + "']}]\nkeys: {dir: /k}",
            "at most two"},
           {"keys: {}", "dir: missing"},
           {"keys: {dir: keys}", "absolute path"},
           {"keys: {dir: /k, allow: /a}", "allow: unknown"}}) {
    const auto got = read(text);
    ASSERT_FALSE(got.ok()) << text;
    EXPECT_NE(got.error().message.find(expected), std::string::npos) << got.error().message;
  }
}

}  // namespace
}  // namespace weir

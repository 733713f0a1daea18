#include "daemon/naming_rules.h"

#include <string>

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

TEST(NamingRules, PatternsMatchWholeTexts) {
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("", ""));
  EXPECT_TRUE(matches("/a/*", "/a/b/c"));
  EXPECT_TRUE(matches("*.service", "/x/nginx.service"));
  EXPECT_TRUE(matches("a*b*c", "axxbxbxc"));
  EXPECT_TRUE(matches("jav?", "java"));
  EXPECT_TRUE(matches("**", "abc"));
  EXPECT_FALSE(matches("", "a"));
  EXPECT_FALSE(matches("a", ""));
  EXPECT_FALSE(matches("?", ""));
  EXPECT_FALSE(matches("/a/*", "/ab/c"));
  EXPECT_FALSE(matches("a*b*c", "axxbxbx"));
  // Linear in pattern * text, whatever the pattern.
  EXPECT_FALSE(matches(std::string(200, '*') + "b", std::string(20'000, 'a')));
}

TEST(NamingRules, TheFirstRuleWhoseConditionsAllHoldNamesTheService) {
  const NamingRules rules{
      .services = {{.cgroup = "/kube/*", .exe = "*/java", .comm = "", .port = 8080, .name = "shop"},
                   {.cgroup = "/kube/*", .exe = "", .comm = "", .port = 0, .name = "pods"},
                   {.cgroup = "", .exe = "", .comm = "ngin?", .port = 0, .name = "web"}},
      .routes = {}};
  EXPECT_EQ(rules.service_of({"/kube/a", "/opt/java", "java", 8080}), "shop");
  EXPECT_EQ(rules.service_of({"/kube/a", "/opt/java", "java", 8081}), "pods");
  EXPECT_EQ(rules.service_of({"/kube/a", "", "java", 8080}), "pods");  // exe unknown
  EXPECT_EQ(rules.service_of({"/", "", "nginx", 80}), "web");
  EXPECT_EQ(rules.service_of({"/", "", "caddy", 80}), "");
  EXPECT_EQ(rules.service_of({}), "");
  EXPECT_TRUE(rules.ask_for_exe());
  EXPECT_FALSE(NamingRules{}.ask_for_exe());
}

TEST(NamingRules, TemplatesMatchSegmentBySegment) {
  const NamingRules rules{
      .services = {},
      .routes = {{.service = "shop", .routes = {"/orders/{id}/lines", "/files/*", "/"}},
                 {.service = "*", .routes = {"/orders/{number}/{part}", "/{any}"}}}};
  const auto route = [&](const char* service, const char* path) {
    const auto* found = rules.route_of(service, path);
    return found == nullptr ? std::string("none") : *found;
  };
  EXPECT_EQ(route("shop", "/orders/{id}/lines"), "/orders/{id}/lines");
  EXPECT_EQ(route("shop", "/orders/last/lines"), "/orders/{id}/lines");
  EXPECT_EQ(route("shop", "/orders/{id}/notes"), "/orders/{number}/{part}");
  EXPECT_EQ(route("web", "/orders/{id}/lines"), "/orders/{number}/{part}");
  EXPECT_EQ(route("shop", "/orders/{id}/lines/"), "none");
  EXPECT_EQ(route("shop", "/orders//lines"), "none");
  EXPECT_EQ(route("shop", "/files/a/b/{id}"), "/files/*");
  EXPECT_EQ(route("shop", "/files/"), "/files/*");
  EXPECT_EQ(route("shop", "/files"), "/{any}");
  EXPECT_EQ(route("shop", "/"), "/");
  EXPECT_EQ(route("web", "/"), "none");
  EXPECT_EQ(route("web", "*"), "none");
}

}  // namespace
}  // namespace weir::daemon
